"""The waterfall of a trace on a terminal, as wide as the terminal is: one row a span, and its links below it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import Style
from rich.text import Text

from shared.telemetry import LINK_REASON
from shared.tools.printable import printable
from shared.tools.traces.model import Link, Span, duration_ns, root, services, tree
from shared.tools.traces.timebar import Axis, bar

_SERVICE_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
_REMOTE_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_ERROR = Style(color="red", bold=True)
_NAME_CELLS, _BAR_CELLS = 35, 16
"""What the name and the bar get at least before a column is dropped."""
_SHORT_KIND_CELLS = 4
_DEEPEST = 8
"""Levels that are indented: deeper ones stay in this column."""


def waterfall(spans: Sequence[Span], linked: Sequence[Span] = ()) -> RenderableType:
    """A rich renderable of one trace; `linked` are spans of other traces that link into it, listed below the tree."""
    return _Waterfall(spans, linked)


def svg(spans: Sequence[Span], linked: Sequence[Span] = (), *, width: int = 120) -> str:
    """The waterfall as an SVG document that loads nothing from elsewhere; `width` in characters."""
    console = Console(file=StringIO(), record=True, force_terminal=True, color_system="truecolor", width=width)
    console.print(waterfall(spans, linked))
    first = root(spans)
    document = console.export_svg(title=f"trace {first.trace_id}" if first else "no spans")
    return _REMOTE_FONT.sub("", document)


def milliseconds(nanoseconds: int) -> str:
    """A duration in ms with about three digits."""
    value = nanoseconds / 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class _Row:
    """A span with what goes around it; `stem` continues the tree's lines in the rows of its links."""

    span: Span
    prefix: str
    stem: str
    queued_ns: int | None = None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths in cells; a column of width 0 is left out."""

    name: int
    service: int
    kind: int
    ms: int
    bar: int

    def join(self, name: Text, service: Text, kind: Text, ms: Text, time: Text) -> Text:
        line = Text(no_wrap=True, overflow="crop")
        for text, width in ((name, self.name), (service, self.service), (kind, self.kind)):
            if width:
                text.truncate(width, overflow="ellipsis", pad=True)
                line.append_text(text).append(" ")
        ms.align("right", self.ms)
        return line.append_text(ms).append(" ").append_text(time)


class _Waterfall:
    def __init__(self, spans: Sequence[Span], linked: Sequence[Span]) -> None:
        self._spans = spans
        self._by_id = {(span.trace_id, span.span_id): span for span in spans}
        self._rows = list(_tree_rows(spans))
        self._linked = [
            _Row(span, "", "  ") for span in linked if any(link.trace_id == self._trace_id for link in span.links)
        ]
        names = list(dict.fromkeys([*services(spans), *services(linked)]))
        self._colours = {name: _SERVICE_COLOURS[place % len(_SERVICE_COLOURS)] for place, name in enumerate(names)}

    @property
    def _trace_id(self) -> str:
        return self._spans[0].trace_id if self._spans else ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._spans:
            yield Text("no spans", "dim")
            return
        width = options.max_width
        columns = _fit([*self._rows, *self._linked], width)
        axis = Axis(min(span.start_ns for span in self._spans), max(span.end_ns for span in self._spans), columns.bar)
        swap = console.color_system is not None

        yield _cropped(self._headline(), width)
        yield columns.join(Text("span"), Text("service"), Text("kind"), Text("ms"), _scale(axis))
        for row in self._rows:
            yield from self._lines(row, columns, axis, width, swap=swap)
        if self._linked:
            yield Text("linked from other traces", "bold")
        for row in self._linked:
            yield from self._lines(row, columns, axis, width, swap=swap)

    def _headline(self) -> Text:
        failed = sum(span.failed for span in self._spans)
        text = Text().append("trace ", "bold").append(self._trace_id[:32])
        text.append(f"  {failed} failed" if failed else "", _ERROR)
        return text.append(f"  {len(self._spans)} spans  {milliseconds(duration_ns(self._spans))} ms", "dim")

    def _lines(self, row: _Row, columns: _Columns, axis: Axis, width: int, *, swap: bool) -> Iterator[Text]:
        span = row.span
        colour = Style(color=self._colours[span.service])
        style = _ERROR if span.failed else colour
        yield columns.join(
            Text().append(row.prefix, "dim").append(printable(span.name), _ERROR if span.failed else ""),
            Text(printable(span.service), colour),
            Text(span.kind[: columns.kind], "dim"),
            Text(milliseconds(span.duration_ns), style),
            bar(axis, span.start_ns, span.end_ns, style, queued_ns=row.queued_ns, swap=swap),
        )
        if span.failed:
            message = printable(span.status_message) or "failed without a message"
            yield _cropped(Text().append(row.stem, "dim").append(f"✗ {message}", _ERROR), width)
        for link in span.links:
            if span.trace_id == self._trace_id or link.trace_id == self._trace_id:
                yield _cropped(Text(row.stem + _link_line(link, self._by_id), "dim"), width)


def _tree_rows(spans: Sequence[Span]) -> Iterator[_Row]:
    by_id = {span.span_id: span for span in spans}
    guides: list[str] = []
    nodes = tree(spans)
    for place, node in enumerate(nodes, start=1):
        has_children = place < len(nodes) and nodes[place].depth > node.depth
        del guides[max(0, node.depth - 1) :]
        above = "".join(guides[:_DEEPEST])
        branch = "? " if node.orphan else "" if node.depth == 0 else "└─ " if node.last_child else "├─ "
        if node.depth > 0:
            guides.append("   " if node.last_child else "│  ")
        stem = "".join(guides[:_DEEPEST]) + ("│  " if has_children else "   ")
        parent = by_id.get(node.span.parent_span_id or "")
        yield _Row(node.span, above + branch, stem, _queued_since(node.span, parent))


def _queued_since(span: Span, parent: Span | None) -> int | None:
    """When the message of a consumer span was sent, if that can be seen."""
    if parent is None or (parent.kind, span.kind) != ("PRODUCER", "CONSUMER"):
        return None
    return parent.end_ns


def _link_line(link: Link, by_id: Mapping[tuple[str, str], Span]) -> str:
    target = by_id.get((link.trace_id, link.span_id))
    to = printable(target.name) if target else f"trace {link.trace_id[:8]} span {link.span_id[:8]}"
    return f"↪ {printable(str(link.attributes.get(LINK_REASON, 'link')))} → {to}"


def _fit(rows: Sequence[_Row], width: int) -> _Columns:
    """Columns for this width: the kind gets short first, then the service goes, whose colour stays on the bar."""
    name = max(cell_len(row.prefix) + cell_len(printable(row.span.name)) for row in rows)
    service = min(18, max(7, *(cell_len(printable(row.span.service)) for row in rows)))
    kind = max(4, *(len(row.span.kind) for row in rows))
    ms = max(5, *(len(milliseconds(row.span.duration_ns)) for row in rows))
    for service_cells, kind_cells in ((service, kind), (service, _SHORT_KIND_CELLS), (0, _SHORT_KIND_CELLS), (0, 0)):
        gaps = 2 + bool(service_cells) + bool(kind_cells)
        left = width - service_cells - kind_cells - ms - gaps
        if left >= min(name, _NAME_CELLS) + _BAR_CELLS:
            break
    name_cells = max(4, min(name, max(_NAME_CELLS, left * 3 // 5), left - _BAR_CELLS))
    return _Columns(name_cells, service_cells, kind_cells, ms, max(1, left - name_cells))


def _scale(axis: Axis) -> Text:
    end = f"{milliseconds(axis.end_ns - axis.start_ns)} ms"
    return Text(f"0{end:>{max(1, axis.cells - 1)}}", "dim", no_wrap=True, end="")


def _cropped(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line
