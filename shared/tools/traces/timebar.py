"""One bar on a time axis made of character cells, placed to an eighth of a cell."""

from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_RIGHT_HALVES = " ▕▕▕▐▐▐██"
"""The right-aligned blocks that exist without swapping colours: an eighth, a half and all of a cell."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The time from `start_ns` to `end_ns` laid over `cells` character cells."""

    start_ns: int
    end_ns: int
    cells: int

    def eighths(self, time_ns: int) -> int:
        """Where a time falls, in eighths of a cell; times outside the axis fall on its ends."""
        span_ns = max(1, self.end_ns - self.start_ns)
        inside = min(max(time_ns - self.start_ns, 0), span_ns)
        return round(inside * self.cells * 8 / span_ns)


def bar(axis: Axis, start_ns: int, end_ns: int, style: Style, *, queued_ns: int | None, swap: bool) -> Text:
    """The bar of one span, never thinner than an eighth of a cell.

    `queued_ns` is when the wait in a queue began: a dotted run leads from there to the bar. `swap` says that the
    terminal can swap fore- and background, which is how a cell is filled from the right to the eighth.
    """
    last = axis.cells * 8
    start = min(axis.eighths(start_ns), last - 1)
    end = min(max(axis.eighths(end_ns), start + 1), last)
    cell, offset = divmod(start, 8)
    queued = cell if queued_ns is None else min(cell, axis.eighths(queued_ns) // 8)

    line = Text(" " * queued, no_wrap=True, end="")
    line.append("·" * (cell - queued), "dim")
    if end <= (cell + 1) * 8:
        within = end - start
        # Glyphs grow from one edge only: take the nearer edge.
        from_right = offset > 8 - (offset + within)
        line.append_text(_right(within, style, swap=swap) if from_right else Text(_EIGHTHS[within], style))
    else:
        line.append_text(_right(8 - offset, style, swap=swap))
        full, rest = divmod(end - (cell + 1) * 8, 8)
        line.append("█" * full + _EIGHTHS[rest].strip(), style)
    line.pad_right(axis.cells - line.cell_len)
    return line


def _right(eighths: int, style: Style, *, swap: bool) -> Text:
    """A cell filled from its right edge."""
    if eighths == 8:
        return Text("█", style)
    if swap:
        return Text(_EIGHTHS[8 - eighths], style + Style(reverse=True))
    return Text(_RIGHT_HALVES[eighths], style)
