"""The product of one checkout beside that of another one, in turns: what a change gains or costs."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import load
from benchmarks.processes import Process
from benchmarks.rows import Figure, Row, ratios, spread
from benchmarks.systems import Setting, product

FIGURES: dict[str, Figure] = {
    "orders/s": lambda row: row.rate,
    "p50 ms": lambda row: row.p50,
    "p99 ms": lambda row: row.p99,
    "CPU ms an order": lambda row: row.cpu,
    "CPU ms an order: API": lambda row: row.cpu_by_part["APIs"],
    "CPU ms an order: worker": lambda row: row.cpu_by_part["workers"],
    "CPU ms an order: broker": lambda row: row.cpu_by_part["broker"],
    "voluntary context switches an order": lambda row: row.voluntary,
    "involuntary context switches an order": lambda row: row.involuntary,
}


def against(
    setting: Setting,
    checkouts: tuple[Path, Path],
    connections: Sequence[int],
    seconds: float,
    repeats: int,
    others: Mapping[str, Sequence[Process]],
    say: Callable[[str], None],
) -> list[dict[str, str]]:
    """Measure the products of two checkouts in turns, each first in every other turn, and set the first to the second."""
    rows = {count: tuple(Row(str(each), count) for each in checkouts) for count in connections}
    for repeat in range(repeats):
        for number in (0, 1) if repeat % 2 == 0 else (1, 0):
            own = replace(setting.within(f"{repeat} {number}"), checkout=checkouts[number])
            with product(own) as running:
                load.warm_up(running.urls, max(connections), min(seconds, load.WARM_UP_SECONDS))
                for count in connections:
                    rows[count][number].measure(running, seconds, others)
            setting.empty_receiver()
        say(f"repeat {repeat + 1} of {repeats} done")
    return [
        {
            "connections": str(count),
            "figure": name,
            "this": f"{statistics.median(figure(this)):.2f}",
            "the other": f"{statistics.median(figure(other)):.2f}",
            "ratio (min-max)": f"{spread(ratios(figure, this, other), 2)} x",
        }
        for count, (this, other) in rows.items()
        for name, figure in FIGURES.items()
        if figure(this)
    ]
