"""The tables of the dashboard: SQL over spans and logs, each row a way to its trace.

`$order_id` is the dashboard's variable. While `_timestamp` is a column, rows come newest first whatever ORDER BY says, so where
another order matters it is none. A query fails for as long as no span or log has brought one of its columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.telemetry.semconv import LinkReason
from shared.tools.openobserve.client import STREAM

ORDER_VARIABLE = "order_id"


@dataclass(frozen=True, slots=True)
class Table:
    """One table."""

    id: str
    title: str
    description: str
    sql: str
    columns: Sequence[str]
    stream_type: str = "traces"


def _reasons(links: str) -> str:
    """Write what gives the reasons of a span's links in one text: they are stored as JSON."""
    each = ", ".join(
        f"CASE WHEN {links} LIKE '%\"{reason.value}\"%' THEN '{reason.value}' END" for reason in LinkReason
    )
    return f"concat_ws(' ', {each})"


_OF_ORDER = f"SELECT DISTINCT trace_id AS t FROM \"{STREAM}\" WHERE order_id = '${ORDER_VARIABLE}'"  # noqa: S608

SLOWEST = Table(
    "slowest-orders",
    "Slowest orders",
    "Requests that placed an order, the longest first. A row leads to its trace.",
    "SELECT order_id, order_status, round(duration / 1000.0, 1) AS ms, start_time, trace_id "  # noqa: S608
    f"FROM \"{STREAM}\" WHERE operation_name LIKE 'POST /orders%' AND order_id IS NOT NULL ORDER BY duration DESC LIMIT 50",
    ("order_id", "order_status", "ms", "start_time", "trace_id"),
)
FAILED = Table(
    "failed-spans",
    "Failed spans, newest first",
    "A row leads to its trace.",
    'SELECT _timestamp, service_name, operation_name, status_message, trace_id FROM "default" '
    "WHERE span_status = 'ERROR' ORDER BY _timestamp DESC LIMIT 100",
    ("_timestamp", "service_name", "operation_name", "status_message", "trace_id"),
)
ORDER_SPANS = Table(
    "order-spans",
    "Its spans, in order of time",
    "Every span of the traces that the order is named in, a duplicate's and a replay's too. A row leads to its trace.",
    "SELECT start_time, service_name, operation_name, span_status, round(duration / 1000.0, 2) AS ms, "  # noqa: S608
    "delivery_outcome, delivery_attempt, delivery_queue_wait_ms, "
    f'{_reasons("links")} AS links_to, trace_id FROM "{STREAM}" '
    f"WHERE trace_id IN ({_OF_ORDER}) ORDER BY start_time LIMIT 500",
    (
        "start_time",
        "service_name",
        "operation_name",
        "span_status",
        "ms",
        "delivery_outcome",
        "delivery_attempt",
        "delivery_queue_wait_ms",
        "links_to",
        "trace_id",
    ),
)
ORDER_LINKED = Table(
    "order-linked",
    "Spans of other traces that link to it",
    "The way back that the page of a trace does not have: shared commits, duplicates, replays. A row leads to its trace.",
    "SELECT s.start_time AS start_time, s.service_name AS service_name, s.operation_name AS operation_name, "  # noqa: S608
    f"round(s.duration / 1000.0, 2) AS ms, {_reasons('s.links')} AS reason, s.trace_id AS trace_id "
    f"FROM \"{STREAM}\" s JOIN ({_OF_ORDER}) o ON s.links LIKE concat('%', o.t, '%') AND s.trace_id <> o.t "
    "ORDER BY start_time LIMIT 200",
    ("start_time", "service_name", "operation_name", "ms", "reason", "trace_id"),
)
ORDER_LOGS = Table(
    "order-logs",
    "Its logs",
    "What the services wrote about it.",
    f'SELECT _timestamp, service_name, severity, body, trace_id FROM "{STREAM}" '  # noqa: S608
    f"WHERE order_id = '${ORDER_VARIABLE}' ORDER BY _timestamp DESC LIMIT 200",
    ("_timestamp", "service_name", "severity", "body", "trace_id"),
    "logs",
)
