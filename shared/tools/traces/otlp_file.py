"""Traces as an OTLP JSON file, as Jaeger's page and the Collector's receiver for such files read it, and back."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from shared.tools.traces.model import Attributes, AttributeValue, Span
from shared.tools.traces.otlp import from_otlp
from shared.tools.traces.otlp_requests import JSON, TRACES, Unreadable

_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUSES = {"OK": 1, "ERROR": 2}


def to_otlp_json(spans: Iterable[Span]) -> str:
    """Write spans on one line, by resource and scope."""
    groups: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in spans:
        groups[json.dumps(span.resource, sort_keys=True), span.scope].append(span)
    by_resource: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (resource, scope), members in groups.items():
        by_resource[resource].append({"scope": {"name": scope}, "spans": [_span(span) for span in members]})
    return json.dumps(
        {
            "resourceSpans": [
                {"resource": {"attributes": _attributes(json.loads(resource))}, "scopeSpans": scopes}
                for resource, scopes in by_resource.items()
            ]
        }
    )


def from_otlp_json(content: bytes) -> list[Span]:
    """Read the spans of a file, a request a line as the Collector writes them or one in all; raises Unreadable."""
    try:
        return from_otlp(TRACES.decode(content, JSON)[0])
    except Unreadable:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [span for line in lines for span in from_otlp(TRACES.decode(line, JSON)[0])]


def _span(span: Span) -> dict[str, Any]:
    parent = {} if span.parent_span_id is None else {"parentSpanId": span.parent_span_id}
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        **parent,
        "name": span.name,
        "kind": _KINDS.get(span.kind, 0),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
        "events": [
            {"name": event.name, "timeUnixNano": str(event.time_ns), "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "links": [
            {"traceId": link.trace_id, "spanId": link.span_id, "attributes": _attributes(link.attributes)}
            for link in span.links
        ],
        "status": {"code": _STATUSES.get(span.status, 0), "message": span.status_message},
    }


def _attributes(attributes: Attributes | Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
