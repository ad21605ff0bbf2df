"""Reads a trace back from OpenObserve, and finds out whether it is OpenObserve that answers.

What is stored, by OpenObserve's own ingestion: span kinds as the digits of OTLP, times in nanoseconds beside `_timestamp` in
microseconds, links and events as JSON texts, every attribute a column of its own, its key lowercased with `_` for any other
character and its value as text, resource attributes under `service_`. A column exists from the first span that has it, so the
queries name only those that every span has.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from shared.service.telemetry_settings import TelemetrySettings, trace_address
from shared.telemetry import semconv
from shared.tools.openobserve.client import STREAM, OpenObserve
from shared.tools.openobserve.dashboard import ORDER_TAB, address
from shared.tools.openobserve.setup import find_dashboard
from shared.tools.traces.model import Attributes, AttributeValue, Event, Link, Span
from shared.tools.traces.readback import ReadbackError, Reader, Trace, TraceReader
from shared.tracing import names

MOST_SPANS = 1000
"""Spans of one trace that are read; OpenObserve gives no more in one answer unless it is set to."""
MOST_LINKED = 200
BEFORE = timedelta(minutes=5)
"""How long a trace may have been under way before its order came in, in the caller's services."""
LINKED_WITHIN = timedelta(hours=1)
_LINKED_US = int(LINKED_WITHIN.total_seconds() * 1e6)
"""How long after its start spans of other traces are searched for links into it: that query reads every link of that time."""

_KINDS = {"1": "INTERNAL", "2": "SERVER", "3": "CLIENT", "4": "PRODUCER", "5": "CONSUMER"}
_RESOURCE = "service_"
_OWN_COLUMNS = (
    "_timestamp _o2_ingest_ts infer_service_name infer_service_type "
    "trace_id span_id flags span_status span_kind operation_name start_time end_time duration "
    "service_name reference_parent_span_id reference_parent_trace_id reference_ref_type events links "
    "status_code status_message"
)
_HTTP_NAMES = (
    "http.request.method http.response.status_code http.route url.path url.scheme url.query client.address "
    "network.protocol.version user_agent.original error.type"
)
_RESOURCE_NAMES = (
    "service.name service.version service.instance.id deployment.environment.name telemetry.sdk.language telemetry.sdk.name "
    "telemetry.sdk.version"
)
_FRACTIONS = (semconv.DELIVERY_QUEUE_WAIT_MS,)
_NUMBERS = (semconv.DELIVERY_ATTEMPT, semconv.BATCH_SIZE, semconv.SERVER_PORT)
_FLAGS = (semconv.DELIVERY_REDELIVERED, names.INVENTORY_IN_STOCK, semconv.MESSAGING_DESTINATION_TEMPORARY)


def fold(name: str) -> str:
    """The column or label that OpenObserve makes of an attribute's or a metric's name."""
    return re.sub("[^a-z0-9_]", "_", name.lower())


_OUR_NAMES = [
    value
    for module in (semconv, names)
    for value in vars(module).values()
    if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+", value)
]
_OWN = frozenset(_OWN_COLUMNS.split())
_NAMES = {fold(name): name for name in (*_OUR_NAMES, *_HTTP_NAMES.split(), *_RESOURCE_NAMES.split())}


def open_reader(url: str, settings: TelemetrySettings, since: datetime) -> Reader:
    """A reader for what answers at `url`, which its `/healthz` tells: the embedded receiver names itself. Raises ReadbackError.

    `since` is when the order came in, or the earliest time at which it may have.
    """
    org, headers = settings.openobserve_org, settings.openobserve_headers
    client = OpenObserve(url, org, headers)
    try:
        is_embedded = "receiver" in client.health()
    except ReadbackError:
        client.__exit__()
        raise
    if is_embedded:
        client.__exit__()
        return TraceReader(url, org, headers)
    return OpenObserveReader(client, settings.openobserve_public_url or url, since)


class OpenObserveReader(Reader):
    """Reads through `_search`: the spans of the trace, then the spans elsewhere that link into it."""

    # Each look is two queries.
    poll_seconds = 0.5

    def __init__(self, client: OpenObserve, public_url: str, since: datetime) -> None:
        self._client = client
        self._public_url = public_url.rstrip("/")
        self._start_us = _microseconds(since - BEFORE)

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def trace(self, trace_id: str) -> Trace | None:
        """Read a trace; None while nothing of it has arrived. Raises ReadbackError."""
        if re.fullmatch("[0-9a-f]{32}", trace_id) is None:
            raise ReadbackError(f"{trace_id!r} is not a trace id.")
        until_us = _microseconds(datetime.now().astimezone() + LINKED_WITHIN)
        # By now the id is nothing but 32 hexadecimal digits, and the stream a constant.
        spans = f"SELECT * FROM \"{STREAM}\" WHERE trace_id = '{trace_id}' ORDER BY start_time"  # noqa: S608
        linked = f"SELECT * FROM \"{STREAM}\" WHERE links LIKE '%{trace_id}%' AND trace_id <> '{trace_id}' ORDER BY start_time"  # noqa: S608
        found = self._client.search(spans, self._start_us, until_us, MOST_SPANS)
        if not found:
            return None
        began_us = min(int(row["start_time"]) for row in found) // 1000
        linking = self._client.search(linked, began_us, min(until_us, began_us + _LINKED_US), MOST_LINKED)
        return Trace(trace_id, [span_from_row(row) for row in found], [span_from_row(row) for row in linking])

    def address(self, trace: Trace) -> str:
        """Give the deep link to a trace."""
        start_us = min(span.start_ns for span in trace.spans) // 1000 - 1_000_000
        end_us = max(span.end_ns for span in trace.spans) // 1000 + 1_000_000
        return trace_address(self._public_url, self._client.org, trace.trace_id, start_us, end_us)

    def order_address(self, order_id: str) -> str | None:
        """Give the address of the dashboard's tab on one order; None where it is not set up."""
        identifier = find_dashboard(self._client)
        if identifier is None:
            return None
        return address(self._public_url, self._client.org, identifier, ORDER_TAB, order_id)


def span_from_row(row: Mapping[str, Any]) -> Span:
    """The span that a stored row was: known names in their dotted form, others as they are stored. Raises ReadbackError."""
    try:
        own = {key: value for key, value in row.items() if key not in _OWN}
        resource = {"service_name": row["service_name"]} | {
            key.removeprefix(_RESOURCE): value for key, value in own.items() if key.startswith(_RESOURCE)
        }
        return Span(
            trace_id=row["trace_id"],
            span_id=row["span_id"],
            parent_span_id=row.get("reference_parent_span_id") or None,
            name=row["operation_name"],
            kind=_KINDS.get(str(row["span_kind"]), "UNSPECIFIED"),
            service=row["service_name"],
            start_ns=int(row["start_time"]),
            end_ns=int(row["end_time"]),
            status=row["span_status"],
            status_message=row.get("status_message") or "",
            attributes=_attributes({key: value for key, value in own.items() if not key.startswith(_RESOURCE)}),
            links=tuple(_link(link) for link in json.loads(row.get("links") or "[]")),
            events=tuple(_event(event) for event in json.loads(row.get("events") or "[]")),
            resource=_attributes(resource),
            scope="",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ReadbackError(f"OpenObserve gave a row that is no span ({error!r}).") from error


def _link(stored: dict[str, Any]) -> Link:
    context = stored["context"]
    own = {key: value for key, value in stored.items() if key not in ("context", "droppedAttributesCount")}
    return Link(context["traceId"], context["spanId"], _attributes(own))


def _event(stored: dict[str, Any]) -> Event:
    own = {key: value for key, value in stored.items() if key not in ("name", "_timestamp")}
    return Event(stored["name"], int(stored["_timestamp"]), _attributes(own))


def _attributes(stored: Mapping[str, Any]) -> Attributes:
    named = {_NAMES.get(key, key): value for key, value in stored.items()}
    return {name: _value(name, value) for name, value in named.items() if value is not None}


def _value(name: str, stored: Any) -> AttributeValue:
    """The value with the type it had, where that is known; everything was stored as text."""
    if not isinstance(stored, str):
        return stored if isinstance(stored, bool | int | float) else json.dumps(stored)
    if name in _FRACTIONS:
        return float(stored)
    if name in _NUMBERS:
        return int(stored)
    return stored == "true" if name in _FLAGS else stored


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
