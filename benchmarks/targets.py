"""What this system is held to, beside others, and whether a measurement met it."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import FLOOR, NO_TRACES, PRODUCT, RPC, SAMPLED, UNTRACED, Contender
from benchmarks.rows import Figure, Row, ratios, spread


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of a figure of one contender to that of another one."""

    text: str
    figure: Figure
    one: Contender
    other: Contender
    bound: float
    is_least: bool
    connections: tuple[int, ...]


def _rate(row: Row) -> list[float]:
    return row.rate


def _cpu(row: Row) -> list[float]:
    return row.cpu


def _p50(row: Row) -> list[float]:
    return row.p50


def _p99(row: Row) -> list[float]:
    return row.p99


LOADED, ALONE = (64, 256), (1,)
TARGETS = (
    Target("orders/s, to patterns.RPC", _rate, PRODUCT, RPC, 1.0, True, LOADED),
    Target("CPU an order, API + worker, to patterns.RPC", _cpu, PRODUCT, RPC, 1.1, False, LOADED),
    Target("orders/s, to the floor", _rate, PRODUCT, FLOOR, 0.75, True, LOADED),
    Target("orders/s, to itself untraced", _rate, PRODUCT, UNTRACED, 0.75, True, LOADED),
    Target("orders/s with 1 % sampled, to metrics and logs only", _rate, SAMPLED, NO_TRACES, 0.95, True, LOADED),
    Target("p99, to patterns.RPC", _p99, PRODUCT, RPC, 1.0, False, ALONE),
    Target("p99, to itself untraced", _p99, PRODUCT, UNTRACED, 1.5, False, ALONE),
    Target("p50, to itself untraced", _p50, PRODUCT, UNTRACED, 1.1, False, ALONE),
)


def against_targets(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Set the measurements against the targets that they tell of: the median of the ratios of the repeats counts."""
    return list(_lines({(row.name, row.connections): row for row in rows}))


def _lines(rows: dict[tuple[str, int], Row]) -> Iterator[dict[str, str]]:
    for target in TARGETS:
        for count in target.connections:
            one, other = rows.get((target.one.name, count)), rows.get((target.other.name, count))
            if one is None or other is None:
                continue
            found = ratios(target.figure, one, other)
            middle = statistics.median(found)
            is_met = middle >= target.bound if target.is_least else middle <= target.bound
            yield {
                "figure": target.text,
                "connections": str(count),
                "target": f"at {'least' if target.is_least else 'most'} {target.bound:g} x",
                "measured (min-max)": f"{spread(found, 2)} x",
                "": "met" if is_met else "missed",
            }
