"""The page of one trace: what became of it, its waterfall, the spans of others that link into it, and its logs."""

from collections.abc import Sequence
from urllib.parse import urlencode

from shared.tools.receiver.links import SpanLinks
from shared.tools.receiver.log_store import LogEntry
from shared.tools.receiver.markup import Markup, element, fragment, joined
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.queue_wait import queue_waits, unanswered
from shared.tools.receiver.record import TraceSummary
from shared.tools.receiver.time_axis import TimeAxis
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.receiver.waterfall_view import Waterfall, hatch, legend
from shared.tools.receiver.wording import clock, counted, duration, fact, labelled, offset, outcome
from shared.tools.traces.model import Node, services, tree

SPANS_A_PAGE = 200
MOST_LINKED = 50
_MOST_LOGS = 500


def render_trace(
    summary: TraceSummary, traces: TraceStore, logs: Sequence[LogEntry], palette: Palette, first: int = 0
) -> Markup:
    """One trace, from its span number `first` on."""
    trace_id = summary.trace_id
    spans = traces.trace(trace_id)
    linked = traces.linked_into(trace_id, limit=MOST_LINKED)
    axis = TimeAxis.of(spans)
    waterfall = Waterfall(
        axis, palette, SpanLinks.of(traces, trace_id, spans, linked), queue_waits(spans), unanswered(spans)
    )
    nodes = tree(spans)
    first = max(0, min(first, len(nodes) - 1))
    return fragment(
        hatch(),
        _headline(summary, legend(services([*spans, *linked]), palette)),
        waterfall.render(nodes[first : first + SPANS_A_PAGE], "Spans"),
        _paging(trace_id, first, len(nodes)),
        _linked(waterfall, linked_nodes=[Node(span, 0, last_child=True, orphan=False) for span in linked]),
        _logs(logs, axis.start_ns),
    )


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
            fact("Spans", f"{summary.span_count:,}"),
            fact("Errors", errors),
            fact("Started", clock(summary.start_ns)),
            fact("Services", services_shown),
            fact("Trace id", element("code", summary.trace_id)),
            class_="headline",
        ),
    )


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


def _logs(logs: Sequence[LogEntry], start_ns: int) -> Markup:
    if not logs:
        body = element("p", "Nothing was logged in this trace.", class_="quiet")
    else:
        rows = [_log(entry, start_ns) for entry in logs[:_MOST_LOGS]]
        heads = [element("th", head, scope="col") for head in ("Time", "Severity", "Service", "Message")]
        table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows), class_="logs")
        more = f"and {counted(len(logs) - _MOST_LOGS, 'record')} more" if len(logs) > _MOST_LOGS else None
        body = fragment(element("div", table, class_="scroll"), element("p", more) if more else None)
    return element("section", element("h2", "Logs"), body, id="logs")


def _log(entry: LogEntry, start_ns: int) -> Markup:
    attributes = joined((labelled(key, str(value)) for key, value in sorted(entry.attributes.items())))
    more = element("details", element("summary", "attributes"), element("dl", attributes)) if entry.attributes else None
    span = None
    if entry.span_id:
        span = element("a", "its span", href=f"#s-{entry.trace_id}-{entry.span_id}", class_="to-span")
    return element(
        "tr",
        element("td", offset(entry.time_ns - start_ns), class_="number"),
        element("td", element("span", entry.severity, class_=f"severity {_severity(entry.severity)}")),
        element("td", entry.service),
        element("td", element("span", entry.body, class_="message"), " ", span, more),
    )


def _severity(text: str) -> str:
    upper = text.upper()
    return (
        "bad"
        if upper.startswith(("ERROR", "FATAL", "CRITICAL"))
        else "doubtful"
        if upper.startswith("WARN")
        else "fine"
    )
