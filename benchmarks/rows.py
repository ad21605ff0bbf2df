"""A row of a result: what the repeats of one system at one number of connections measured."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import load
from benchmarks.systems import Process, Running

Figure = Callable[["Row"], list[float]]


@dataclass
class Row:
    """Figures of each repeat; times in milliseconds, memory in MB."""

    name: str
    connections: int
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu_by_part: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """CPU an order of each part: `APIs`, `workers`, and whatever else was measured."""
    memory: list[float] = field(default_factory=list)
    failed: int = 0

    def measure(self, running: Running, seconds: float, others: Mapping[str, Sequence[Process]] | None = None) -> None:
        """Load a system for some seconds and note what it cost, itself and `others`: a broker, say."""
        parts = {"APIs": running.apis, "workers": running.workers, **(others or {})}
        before = {name: _cpu(part) for name, part in parts.items()}
        result = load.run(running.urls, self.connections, seconds)
        orders = max(1, len(result.latencies))
        for name, part in parts.items():
            self.cpu_by_part[name].append((_cpu(part) - before[name]) / orders * 1000)
        self.rate.append(result.rate)
        self.p50.append(result.percentile(0.50))
        self.p99.append(result.percentile(0.99))
        self.memory.append(max(process.memory_mb() for process in running.processes))
        self.failed += result.failed

    @property
    def cpu(self) -> list[float]:
        """CPU an order of the system's own processes."""
        return [a + b for a, b in zip(self.cpu_by_part["APIs"], self.cpu_by_part["workers"], strict=True)]

    def cpu_of(self, part: str) -> str:
        """Write the median of what an order costs one part; a dash where it had no part in it."""
        found = self.cpu_by_part.get(part)
        return f"{statistics.median(found):.2f}" if found else "-"


def _cpu(processes: Sequence[Process]) -> float:
    return sum(process.cpu_seconds() for process in processes)


def ratio(figure: Figure, one: Row, other: Row) -> float:
    """Set two rows against each other, repeat by repeat: the median of the ratios."""
    return statistics.median(a / b for a, b in zip(figure(one), figure(other), strict=True))


def spread(figures: Sequence[float]) -> str:
    """Write the median, and the least and the most."""
    return f"{statistics.median(figures):.0f} ({min(figures):.0f}-{max(figures):.0f})"


def table(rows: Sequence[dict[str, str]]) -> str:
    """Write rows as a Markdown table; the keys of the first are the head."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows), ""])
