"""This system beside two others that do less, in turns, and the targets that it is held to."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks import load, systems
from benchmarks.rows import Row, ratios, spread
from benchmarks.systems import Setting, System

PRODUCT, SAMPLED, NO_TRACES, UNTRACED, RPC = (
    "traced orders",
    "traced orders, 1 % sampled",
    "traced orders, metrics and logs only",
    "traced orders, untraced",
    "patterns.RPC, traced",
)
CONTENDERS: dict[str, tuple[System, dict[str, str]]] = {
    PRODUCT: (systems.product, {}),
    SAMPLED: (
        systems.product,
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    ),
    NO_TRACES: (systems.product, {"OTEL_TRACES_EXPORTER": "none"}),
    UNTRACED: (systems.product, {"OTEL_SDK_DISABLED": "true"}),
    RPC: (systems.rpc, {}),
    "tutorial's HTTP pair, traced": (systems.tutorial, {}),
}


def compare(
    setting: Setting, connections: Sequence[int], seconds: float, repeats: int, say: Callable[[str], None]
) -> list[Row]:
    """Measure every contender at every number of connections, in turns."""
    rows = {(name, count): Row(name, count) for count in connections for name in CONTENDERS}
    for repeat in range(repeats):
        for name, (system, environment) in CONTENDERS.items():
            with system(setting.within(f"{repeat} {name}"), **environment) as running:
                load.warm_up(running.urls, max(connections))
                for count in connections:
                    rows[name, count].measure(running, seconds)
            say(f"repeat {repeat + 1}: {name} done")
            setting.empty_receiver()
    return list(rows.values())


def as_table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Write the comparison: medians, and the spread of the rate."""
    middle = statistics.median
    return [
        {
            "system": row.name,
            "connections": str(row.connections),
            "orders/s (min-max)": spread(row.rate),
            "p50 ms": f"{middle(row.p50):.1f}",
            "p99 ms": f"{middle(row.p99):.1f}",
            "CPU ms an order: API + worker": f"{row.cpu_of('APIs')} + {row.cpu_of('workers')}",
            "peak MB": f"{max(row.memory):.0f}",
            "failed": str(row.failed),
        }
        for row in sorted(rows, key=lambda each: each.connections)
    ]


def targets(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Set the measurements against the targets, pair by pair: the median of the ratios of the repeats."""
    by_key = {(row.name, row.connections): row for row in rows}

    def of(name: str, connections: int) -> Row:
        return by_key[name, connections]

    def line(target: str, measured: Sequence[float]) -> dict[str, str]:
        return {"target": target, "measured (min-max)": f"{spread(measured, 2)} x"}

    lines = []
    for count in sorted({row.connections for row in rows} - {1}):
        at, ours, theirs = f"{count} connections", of(PRODUCT, count), of(RPC, count)
        untraced = of(UNTRACED, count)
        lines += [
            line(f"at least 1.5 x the orders/s of patterns.RPC, {at}", ratios(lambda row: row.rate, ours, theirs)),
            line(f"at most 0.7 x its CPU an order, {at}", ratios(lambda row: row.cpu, ours, theirs)),
            line(f"at least 0.75 x the orders/s untraced, {at}", ratios(lambda row: row.rate, ours, untraced)),
            line(
                f"1 % sampled: next to 1 x the orders/s with metrics and logs only, {at}",
                ratios(lambda row: row.rate, of(SAMPLED, count), of(NO_TRACES, count)),
            ),
        ]
    ours, theirs, untraced = of(PRODUCT, 1), of(RPC, 1), of(UNTRACED, 1)
    return [
        *lines,
        line("at most 0.35 x the p99 of patterns.RPC, 1 connection", ratios(lambda row: row.p99, ours, theirs)),
        line("at most 1 x its p50, 1 connection", ratios(lambda row: row.p50, ours, theirs)),
        line("at most 2 x the p99 untraced, 1 connection", ratios(lambda row: row.p99, ours, untraced)),
    ]
