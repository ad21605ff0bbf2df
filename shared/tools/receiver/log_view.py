"""Log records: those of a trace below it, and those of no trace in a list of their own."""

from collections.abc import Callable, Sequence

from shared.tools.receiver.log_store import LogEntry
from shared.tools.receiver.markup import Markup, element, fragment, joined
from shared.tools.receiver.wording import clock, counted, labelled, offset

MOST_LOGS = 500


def render_trace_logs(logs: Sequence[LogEntry], start_ns: int, address: Callable[[tuple[str, str]], str]) -> Markup:
    """The records of one trace; `address` gives where a span is shown."""
    if not logs:
        body = element("p", "Nothing was logged in this trace.", class_="quiet")
    else:

        def to_span(entry: LogEntry) -> Markup | None:
            if not entry.span_id:
                return None
            return element("a", "its span", href=address((entry.trace_id, entry.span_id)), class_="to-span")

        rows = [_row(entry, offset(entry.time_ns - start_ns), to_span(entry)) for entry in logs[:MOST_LOGS]]
        more = f"and {counted(len(logs) - MOST_LOGS, 'record')} more" if len(logs) > MOST_LOGS else None
        body = fragment(_table(rows), element("p", more) if more else None)
    return element("section", element("h2", "Logs"), body, id="logs")


def render_loose_logs(logs: Sequence[LogEntry]) -> Markup:
    """The newest records that belong to no trace: starts and ends, connections, what happens between orders."""
    if not logs:
        return fragment(
            element("h1", "Logs"), element("p", "Nothing was logged outside of a trace yet.", class_="empty")
        )
    return fragment(
        element("h1", "Logs"),
        element("p", "Written outside of any trace, newest first; the others are with their traces.", class_="quiet"),
        _table([_row(entry, clock(entry.time_ns), None) for entry in logs[:MOST_LOGS]]),
    )


def _table(rows: Sequence[Markup]) -> Markup:
    heads = [element("th", head, scope="col") for head in ("Time", "Severity", "Service", "Message")]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows), class_="logs")
    return element("div", table, class_="scroll")


def _row(entry: LogEntry, when: Markup | str, span: Markup | None) -> Markup:
    attributes = joined((labelled(key, str(value)) for key, value in sorted(entry.attributes.items())))
    more = element("details", element("summary", "attributes"), element("dl", attributes)) if entry.attributes else None
    return element(
        "tr",
        element("td", when, class_="number"),
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
