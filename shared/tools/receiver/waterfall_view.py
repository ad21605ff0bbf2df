"""The waterfall of a trace: the tree on the left, a time axis on the right, one row a span.

The bars are SVG whose geometry is in its attributes: the pages allow no inline styles.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.tools.receiver.links import SpanLinks
from shared.tools.receiver.log_store import LogEntry
from shared.tools.receiver.markup import Markup, element, fragment, joined
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.span_details import render_details
from shared.tools.receiver.time_axis import TimeAxis
from shared.tools.receiver.wording import duration, service
from shared.tools.traces.model import Node, Span
from shared.tools.traces.queue_wait import Run

_DEEPEST = 12
"""Levels that are indented: deeper ones stay in this column."""
_ROOM_FOR_LABEL = 22.0
"""Percent of the axis that the words beside a bar take."""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What all rows of a page share."""

    axis: TimeAxis
    palette: Palette
    links: SpanLinks
    waits: Mapping[str, Run]
    unanswered: set[str]
    logs: Mapping[str, Sequence[LogEntry]] = field(default_factory=dict)
    """By the id of the span that they were written in."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Of the spans of the trace, by id."""
    parents: frozenset[str] = frozenset()
    """Ids of the spans that have children."""

    def render(self, nodes: Iterable[Node], label: str) -> Markup:
        """The rows with the axis above them."""
        rows = element("ol", *(self._row(node) for node in nodes), class_="spans", aria_label=label, role="list")
        return element("div", self._header(), rows, class_="waterfall")

    def _header(self) -> Markup:
        labels = [(0.0, "0")]
        labels += [(self.axis.percent(self.axis.start_ns + tick), _tick(tick)) for tick in self.axis.ticks()]
        texts = [
            element(
                "text", text, x=f"{x:.2f}%", y="70%", text_anchor="start" if x == 0 else "end" if x > 96 else "middle"
            )
            for x, text in labels
        ]
        scale = _track(*texts)
        head = (element("span", "Span"), element("span", "Duration", class_="took"), scale)
        return element("div", *head, class_="row head", aria_hidden="true")

    def _row(self, node: Node) -> Markup:
        span = node.span
        depth = f"depth-{min(node.depth, _DEEPEST)}"
        mark = element("span", "✗ ", class_="failed", title="failed") if span.failed else None
        facts = fragment(
            service(span.service, self.palette.css_class(span.service)),
            element("span", span.kind.lower(), class_=f"kind {span.kind.lower()}"),
            element("span", "its parent is not here", class_="quiet") if node.orphan else None,
            self._child_of(node),
        )
        name = element(
            "span",
            element("span", mark, span.name, class_="name"),
            element("span", facts, class_="facts"),
            class_=f"what {depth}",
        )
        summary = element(
            "summary",
            name,
            element("span", duration(span.duration_ns), class_="took"),
            self._track(span),
            class_="row",
        )
        failure = None
        if span.failed:
            failure = element("p", f"✗ {span.status_message or 'failed without a message'}", class_=f"failure {depth}")
        return element(
            "li",
            self._fold(node),
            element("details", summary, render_details(span, self.axis.start_ns, self.logs.get(span.span_id, ()))),
            failure,
            self.links.render(span, depth),
            id=f"s-{span.trace_id}-{span.span_id}",
            role="listitem",
            aria_level=node.depth + 1,
            class_="span failed" if span.failed else "span",
        )

    def _child_of(self, node: Node) -> Markup | None:
        """The place in the tree in words, for who does not see the indentation."""
        above = self.names.get(node.span.parent_span_id or "")
        return element("span", f", child of {above}", class_="unseen") if above else None

    def _fold(self, node: Node) -> Markup | None:
        """What hides the spans below one; the script makes it work and shows it."""
        if node.span.span_id not in self.parents:
            return None
        label = f"Spans below {node.span.name}"
        css = f"fold depth-{min(node.depth, _DEEPEST)}"
        return element("button", "▾", type="button", class_=css, aria_expanded="true", aria_label=label, hidden=True)

    def _track(self, span: Span) -> Markup:
        grid = [
            element("line", x1=f"{x:.2f}%", x2=f"{x:.2f}%", y1=0, y2="100%", class_="grid")
            for x in (self.axis.percent(self.axis.start_ns + tick) for tick in self.axis.ticks())
        ]
        if not self.axis.holds(span):
            return _track(*grid, self._elsewhen(span))
        shapes = [_box(self.axis, span.start_ns, span.end_ns, f"bar {self.palette.css_class(span.service)}")]
        wait = self.waits.get(span.span_id)
        words = "failed" if span.failed else ""
        if wait is not None:
            shapes.insert(0, _box(self.axis, wait.start_ns, wait.end_ns, "wait"))
            text = f"{duration(wait.duration_ns)} in queue"
            shapes.append(_beside(text, self.axis.percent(wait.start_ns), self.axis.percent(span.end_ns)))
            words = f"{text} {words}"
        elif span.span_id in self.unanswered:
            shapes.insert(0, _box(self.axis, span.end_ns, self.axis.end_ns, "wait open"))
            shapes.append(_beside("no consumer seen yet", self.axis.percent(span.start_ns), 100.0))
            words = f"no consumer seen yet {words}"
        return _track(*grid, *shapes, role="img", aria_label=words or "on the time axis")

    def _elsewhen(self, span: Span) -> Markup:
        if span.start_ns > self.axis.end_ns:
            later = duration(span.start_ns - self.axis.end_ns)
            return element("text", f"{later} later →", x="100%", y="50%", text_anchor="end", class_="beside")
        earlier = duration(self.axis.start_ns - span.end_ns)
        return element("text", f"← {earlier} earlier", x="0", y="50%", class_="beside")


def hatch() -> Markup:
    """The pattern of a wait in a queue, once a page; an SVG of no size rather than a hidden one, which browsers skip."""
    stripe = element("line", x1=0, y1=0, x2=0, y2=6, class_="hatch")
    pattern = element(
        "pattern",
        stripe,
        id="hatch",
        width=5,
        height=5,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    return element("svg", element("defs", pattern), width=0, height=0, aria_hidden="true", class_="defs")


def legend(services: Sequence[str], palette: Palette) -> Markup:
    """Which colour is whose."""
    return joined((service(name, palette.css_class(name)) for name in services), " ")


def _track(*shapes: Markup, **attributes: str) -> Markup:
    return element("span", element("svg", *shapes, **attributes), class_="track")


def _box(axis: TimeAxis, start_ns: int, end_ns: int, class_: str) -> Markup:
    left, right = axis.percent(start_ns), axis.percent(max(start_ns, end_ns))
    return element("rect", x=f"{left:.3f}%", width=f"{right - left:.3f}%", class_=class_)


def _beside(text: str, left: float, right: float) -> Markup:
    """Words next to a run: on the side where there is room, else above it."""
    if left >= _ROOM_FOR_LABEL:
        return element("text", text, x=f"{left:.2f}%", dx=-8, y="50%", text_anchor="end", class_="beside")
    if 100 - right >= _ROOM_FOR_LABEL:
        return element("text", text, x=f"{right:.2f}%", dx=8, y="50%", class_="beside")
    return element("text", text, x=f"{(left + right) / 2:.2f}%", y="50%", dy=-15, text_anchor="middle", class_="beside")


def _tick(nanoseconds: int) -> str:
    """Ticks are round numbers: no digits that say nothing."""
    if nanoseconds >= 1_000_000_000:
        return f"{nanoseconds / 1e9:g} s"
    return f"{nanoseconds / 1e6:g} ms" if nanoseconds >= 1_000 else f"{nanoseconds:g} ns"
