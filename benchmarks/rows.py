"""A row of a result: what the repeats of one system at one number of connections measured."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import load
from benchmarks.processes import Process
from benchmarks.systems import Running

Figure = Callable[["Row"], list[float]]


@dataclass
class Row:
    """Figures of each repeat; times in milliseconds, memory in MB, CPU and context switches an order."""

    name: str
    connections: int
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu_by_part: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each part: `APIs`, `workers`, and whatever else was measured."""
    voluntary: list[float] = field(default_factory=list)
    """How often an order made a thread of the system wait: for another one, for the network, for a lock."""
    involuntary: list[float] = field(default_factory=list)
    """How often an order's threads had to leave the processor to others."""
    memory: list[float] = field(default_factory=list)
    failed: int = 0

    def measure(self, running: Running, seconds: float, others: Mapping[str, Sequence[Process]] | None = None) -> None:
        """Load a system for some seconds and note what it cost, itself and `others`: a broker, say."""
        parts = {"APIs": running.apis, "workers": running.workers, **(others or {})}
        cpu = {name: _cpu(part) for name, part in parts.items()}
        before = [process.switches() for process in running.processes]
        result = load.run(running.urls, self.connections, seconds)
        after = [process.switches() for process in running.processes]
        orders = max(1, result.answered)
        for name, part in parts.items():
            self.cpu_by_part[name].append((_cpu(part) - cpu[name]) / orders * 1000)
        pairs = list(zip(before, after, strict=True))
        self.voluntary.append(sum(late.voluntary - early.voluntary for early, late in pairs) / orders)
        self.involuntary.append(sum(late.involuntary - early.involuntary for early, late in pairs) / orders)
        self.rate.append(result.rate)
        self.p50.append(result.p50)
        self.p99.append(result.p99)
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


def ratios(figure: Figure, one: Row, other: Row) -> list[float]:
    """Set two rows against each other, repeat by repeat."""
    return [a / b if b else float("nan") for a, b in zip(figure(one), figure(other), strict=True)]


def spread(figures: Sequence[float], digits: int = 0) -> str:
    """Write the median, and the least and the most."""
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}-{max(figures):.{digits}f})"


def table(rows: Sequence[dict[str, str]]) -> str:
    """Write rows as a Markdown table; the keys of the first are the head."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows), ""])
