"""The page of one trace: what became of it, its waterfall, the spans of others that link into it, and its logs."""

from collections.abc import Sequence
from urllib.parse import urlencode

from shared.tools.receiver.critical_view import render_critical
from shared.tools.receiver.links import SpanLinks
from shared.tools.receiver.log_store import LogEntry
from shared.tools.receiver.log_view import render_trace_logs
from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.record import TraceSummary
from shared.tools.receiver.time_axis import TimeAxis
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.receiver.waterfall_view import Waterfall, hatch, legend
from shared.tools.receiver.wording import clock, copy_button, duration, fact, outcome
from shared.tools.traces.critical_path import critical_path
from shared.tools.traces.model import Node, Span, services, tree
from shared.tools.traces.queue_wait import queue_waits, unanswered
from shared.tools.traces.sequence import Arrow, arrows_of, sequence_svg

SPANS_A_PAGE = 200
MOST_LINKED = 50


def render_trace(
    summary: TraceSummary,
    traces: TraceStore,
    logs: Sequence[LogEntry],
    palette: Palette,
    first: int = 0,
    around: str | None = None,
) -> Markup:
    """One trace, from its span number `first` on, or from the page on that the span with the id `around` is on."""
    trace_id = summary.trace_id
    spans = traces.trace(trace_id)
    linked = traces.linked_into(trace_id, limit=MOST_LINKED)
    nodes = tree(spans)
    first = _first(nodes, first, around)
    page = nodes[first : first + SPANS_A_PAGE]
    waterfall = waterfall_of(traces, palette, spans, linked, frozenset(node.span.span_id for node in page), logs)
    steps = arrows_of(spans, linked)
    return fragment(
        hatch(),
        _headline(summary, legend(services([*spans, *linked]), palette)),
        render_critical(critical_path(spans, linked), palette),
        waterfall.render(page, "Spans"),
        _paging(trace_id, first, len(nodes)),
        _linked(waterfall, linked_nodes=[Node(span, 0, last_child=True, orphan=False) for span in linked]),
        _sequence(steps),
        render_trace_logs(logs, waterfall.axis.start_ns, waterfall.links.address),
    )


def waterfall_of(
    traces: TraceStore,
    palette: Palette,
    spans: Sequence[Span],
    linked: Sequence[Span],
    on_page: frozenset[str],
    logs: Sequence[LogEntry] = (),
) -> Waterfall:
    """The waterfall of a trace, of which a page shows the spans with the ids `on_page`."""
    written: dict[str, list[LogEntry]] = {}
    for entry in logs:
        written.setdefault(entry.span_id, []).append(entry)
    return Waterfall(
        TimeAxis.of(spans),
        palette,
        SpanLinks.of(traces, spans[0].trace_id, spans, linked, on_page, SPANS_A_PAGE),
        queue_waits(spans),
        unanswered(spans),
        written,
        {span.span_id: span.name for span in spans},
        frozenset(span.parent_span_id for span in spans if span.parent_span_id),
    )


def _first(nodes: Sequence[Node], first: int, around: str | None) -> int:
    """The number of the first span of the page that is asked for."""
    if around is not None:
        place = next((number for number, node in enumerate(nodes) if node.span.span_id == around), 0)
        return place - place % SPANS_A_PAGE
    return max(0, min(first, len(nodes) - 1))


def _sequence(steps: Sequence[Arrow]) -> Markup | None:
    if len(steps) < 2:
        return None
    # What is in it is escaped where it is drawn.
    drawn = element("div", Markup(sequence_svg(steps)), class_="scroll", tabindex="0")
    return element("details", element("summary", "Sequence diagram"), drawn, class_="conversation", id="sequence")


def render_waiting(trace_id: str, placed: str | None) -> Markup:
    """The page of a trace of which nothing is here."""
    if placed is None:
        return fragment(
            element("h1", "No such trace"),
            element("p", "Nothing of trace ", element("code", trace_id), " is here: it never arrived, or made room."),
            element("p", element("a", "All traces", href="/")),
        )
    return fragment(
        element("h1", f"Order {placed} is placed"),
        element("p", "Its trace is on the way; services send their spans every second or so.", class_="quiet"),
    )


def _headline(summary: TraceSummary, services_shown: Markup) -> Markup:
    order = None
    if summary.order_id:
        path = "/?" + urlencode({"order_id": summary.order_id})
        order = element("a", summary.order_id, href=path, title="all traces of this order", class_="of")
    errors = element("strong", f"✗ {summary.errors:,}", class_="failed") if summary.errors else "none"
    return fragment(
        element("h1", element("span", summary.root), order, outcome(summary)),
        element(
            "dl",
            fact("Duration", duration(summary.duration_ms * 1e6)),
            fact("Spans", f"{summary.span_count:,}{_refused(summary)}"),
            fact("Errors", errors),
            fact("Started", clock(summary.start_ns)),
            fact("Services", services_shown),
            fact(
                "Trace id", fragment(element("code", summary.trace_id), copy_button(summary.trace_id, "the trace id"))
            ),
            class_="headline",
        ),
        element(
            "nav",
            element("a", "Export as OTLP JSON", href=f"/traces/{summary.trace_id}/export", download=True),
            element("a", "Compare with another trace", href=f"/compare?a={summary.trace_id}"),
            aria_label="With this trace",
            class_="actions",
        ),
    )


def _refused(summary: TraceSummary) -> str:
    return f" kept, {summary.refused:,} refused: a trace holds no more here" if summary.refused else ""


def _paging(trace_id: str, first: int, total: int) -> Markup | None:
    if total <= SPANS_A_PAGE:
        return None
    path = f"/traces/{trace_id}"
    earlier = element("a", "← spans before", href=f"{path}?first={max(0, first - SPANS_A_PAGE)}") if first else None
    last = min(total, first + SPANS_A_PAGE)
    later = element("a", "spans after →", href=f"{path}?first={last}") if last < total else None
    shown = element("span", f"spans {first + 1:,} to {last:,} of {total:,}")
    return element("nav", earlier, shown, later, class_="paging", aria_label="More spans")


def _linked(waterfall: Waterfall, linked_nodes: Sequence[Node]) -> Markup | None:
    if not linked_nodes:
        return None
    most = f" (the first {MOST_LINKED})" if len(linked_nodes) == MOST_LINKED else ""
    return element(
        "section",
        element("h2", "Linked from other traces", most),
        element(
            "p",
            "Group commits, duplicates, late replies and replays are traces of their own; here they are on this trace's "
            "time axis.",
            class_="quiet",
        ),
        waterfall.render(linked_nodes, "Spans of other traces"),
    )
