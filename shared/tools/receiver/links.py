"""The span links of a trace in both directions, each with a name for what it leads to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.telemetry import LINK_REASON
from shared.tools.receiver.markup import Markup, element, joined
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.traces.model import Attributes, Span
from shared.tracing.names import ORDER_ID

SpanKey = tuple[str, str]
"""Trace id and span id."""
_MOST_SHOWN = 6
_MOST_LOOKED_UP = 100
"""Targets in other traces whose names are looked up for one page."""


@dataclass(frozen=True, slots=True)
class SpanLinks:
    """What links from and to the spans of one page."""

    traces: TraceStore
    trace_id: str
    known: dict[SpanKey, Span | None]
    on_page: frozenset[str]
    """Ids of the trace's spans that this page shows."""
    spans_a_page: int
    """Of a trace that has more, the address of a span says which."""
    incoming: dict[SpanKey, list[tuple[Span, Attributes]]] = field(default_factory=dict)
    looked_up: list[SpanKey] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        traces: TraceStore,
        trace_id: str,
        spans: Sequence[Span],
        linked: Sequence[Span],
        on_page: frozenset[str],
        spans_a_page: int,
    ) -> "SpanLinks":
        """The links between the spans of a trace, and those that come from other traces."""
        links = cls(
            traces, trace_id, {(span.trace_id, span.span_id): span for span in [*linked, *spans]}, on_page, spans_a_page
        )
        for span in [*spans, *linked]:
            for link in span.links:
                links.incoming.setdefault((link.trace_id, link.span_id), []).append((span, link.attributes))
        return links

    def render(self, span: Span, css_class: str) -> Markup | None:
        """Every link of a span: the first few at once, the others on request."""
        outgoing = [self._chip("links to", "↪", (link.trace_id, link.span_id), link.attributes) for link in span.links]
        incoming = [
            self._chip("linked from", "↩", (source.trace_id, source.span_id), attributes)
            for source, attributes in self.incoming.get((span.trace_id, span.span_id), ())
        ]
        chips = [*outgoing, *incoming]
        if span.trace_id != self.trace_id:
            own = element("a", "its own trace", href=f"/traces/{span.trace_id}")
            chips.append(element("span", own, class_="chip"))
        if not chips:
            return None
        return element("div", _folded(chips), class_=f"links {css_class}")

    def _chip(self, words: str, arrow: str, key: SpanKey, attributes: Attributes) -> Markup:
        reason = str(attributes.get(LINK_REASON, "link"))
        return element(
            "span",
            element("span", arrow, aria_hidden="true", class_="arrow"),
            element("span", f"{words} ", class_="unseen"),
            element("span", reason, class_="reason"),
            " ",
            element("a", self._name(key), href=self.address(key), title=f"{words} this span"),
            class_="chip",
        )

    def address(self, key: SpanKey) -> str:
        """Where a span is shown: on this page, or on the page of its trace that it is on."""
        trace_id, span_id = key
        if trace_id == self.trace_id and span_id in self.on_page:
            return f"#s-{trace_id}-{span_id}"
        summary = self.traces.summary(trace_id)
        is_on_first_page = summary is None or summary.span_count <= self.spans_a_page
        return f"/traces/{trace_id}{'' if is_on_first_page else f'?span={span_id}'}#s-{trace_id}-{span_id}"

    def _name(self, key: SpanKey) -> str:
        trace_id, span_id = key
        if key not in self.known and len(self.looked_up) < _MOST_LOOKED_UP:
            self.looked_up.append(key)
            self.known[key] = self.traces.span(trace_id, span_id)
        span = self.known.get(key)
        if span is None:
            return f"trace {trace_id[:8]}, span {span_id[:8]}"
        order_id = span.attributes.get(ORDER_ID) if trace_id != self.trace_id else None
        return f"{span.name} · {order_id}" if order_id else span.name


def _folded(chips: Sequence[Markup]) -> Markup:
    if len(chips) <= _MOST_SHOWN + 1:
        return joined(chips)
    rest = element(
        "details", element("summary", f"{len(chips) - _MOST_SHOWN:,} more links"), joined(chips[_MOST_SHOWN:])
    )
    return joined([*chips[:_MOST_SHOWN], rest])
