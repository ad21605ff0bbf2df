"""Contenders in turns, at each number of connections."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks import load
from benchmarks.contenders import Contender
from benchmarks.processes import Process
from benchmarks.rows import Row, spread
from benchmarks.systems import Setting


def compare(
    setting: Setting,
    contenders: Sequence[Contender],
    connections: Sequence[int],
    seconds: float,
    repeats: int,
    others: Mapping[str, Sequence[Process]],
    say: Callable[[str], None],
) -> list[Row]:
    """Measure every contender and `others`, the broker it uses, at every number of connections, in turns that go to and fro."""
    rows = {
        (contender.name, count): Row(contender.name, count)
        for count in connections
        for contender in contenders
        if contender.only_at is None or count in contender.only_at
    }
    for repeat in range(repeats):
        for contender in contenders if repeat % 2 == 0 else reversed(contenders):
            mine = [row for row in rows.values() if row.name == contender.name]
            if not mine:
                continue
            own = setting.within(f"{repeat} {contender.name}")
            with contender.system(own, **contender.environment) as running:
                load.warm_up(running.urls, max(row.connections for row in mine), min(seconds, load.WARM_UP_SECONDS))
                for row in mine:
                    row.measure(running, seconds, others)
            setting.empty_receiver()
            say(f"repeat {repeat + 1} of {repeats}: {contender.name} done")
    return list(rows.values())


def as_table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Write the comparison: medians, and the spread of the rate."""
    middle = statistics.median
    return [
        {
            "connections": str(row.connections),
            "system": row.name,
            "orders/s (min-max)": spread(row.rate),
            "p50 ms": f"{middle(row.p50):.1f}",
            "p99 ms": f"{middle(row.p99):.1f}",
            "CPU ms an order: API + worker": f"{row.cpu_of('APIs')} + {row.cpu_of('workers')}",
            "broker": row.cpu_of("broker"),
            "context switches an order: voluntary + not": f"{middle(row.voluntary):.1f} + {middle(row.involuntary):.1f}",
            "peak MB": f"{max(row.memory):.0f}",
            "failed": str(row.failed),
        }
        for row in rows
    ]
