"""The time axis of a waterfall, in percent of its width."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.tools.traces.model import Span

_MOST_TICKS = 5


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """From the start of a trace to its end."""

    start_ns: int
    end_ns: int

    @classmethod
    def of(cls, spans: Iterable[Span]) -> "TimeAxis":
        """The axis that holds these spans; there must be one at the least."""
        spans = list(spans)
        start_ns = min(span.start_ns for span in spans)
        return cls(start_ns, max(start_ns + 1, *(span.end_ns for span in spans)))

    @property
    def length_ns(self) -> int:
        """How long the trace took."""
        return self.end_ns - self.start_ns

    def percent(self, time_ns: int) -> float:
        """Where a time falls; what is outside of the axis falls on its nearer end."""
        return min(100.0, max(0.0, 100 * (time_ns - self.start_ns) / self.length_ns))

    def holds(self, span: Span) -> bool:
        """Whether any of a span is inside."""
        return span.start_ns <= self.end_ns and span.end_ns >= self.start_ns

    def ticks(self) -> list[int]:
        """Nanoseconds after the start, at round numbers, without the start itself."""
        step = _round_step(self.length_ns / _MOST_TICKS)
        return list(range(step, self.length_ns + 1, step))


def _round_step(least: float) -> int:
    """The next of 1, 2 or 5 times a power of ten."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10
