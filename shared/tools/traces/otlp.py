"""OTLP protobuf to the trace model."""

import json
import math
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2 as otlp_common
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.tools.traces.model import Attributes, AttributeValue, Event, Link, Scalar, Span

_KINDS = {number: name.removeprefix("SPAN_KIND_") for name, number in otlp.Span.SpanKind.items()}
_STATUSES = {number: name.removeprefix("STATUS_CODE_") for name, number in otlp.Status.StatusCode.items()}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who recorded a span or log record: the resource, its service name, and the instrumentation scope."""

    service: str
    resource: Attributes
    scope: str


def from_otlp(request: ExportTraceServiceRequest) -> list[Span]:
    """Every span of an export request, in the order sent."""
    return [
        decode_span(span, decode_origin(of_resource.resource, of_scope.scope))
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def decode_origin(resource: Resource, scope: otlp_common.InstrumentationScope) -> Origin:
    """The origin that spans or log records of one resource and scope share."""
    attributes = decode_attributes(resource.attributes)
    return Origin(str(attributes.get("service.name", "unknown_service")), attributes, scope.name)


def decode_span(span: otlp.Span, origin: Origin) -> Span:
    """One span; kinds and statuses that OTLP does not name read as UNSPECIFIED and UNSET."""
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=_KINDS.get(span.kind, "UNSPECIFIED"),
        service=origin.service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=_STATUSES.get(span.status.code, "UNSET"),
        status_message=span.status.message,
        attributes=decode_attributes(span.attributes),
        links=tuple(
            Link(link.trace_id.hex(), link.span_id.hex(), decode_attributes(link.attributes)) for link in span.links
        ),
        events=tuple(
            Event(event.name, event.time_unix_nano, decode_attributes(event.attributes)) for event in span.events
        ),
        resource=origin.resource,
        scope=origin.scope,
    )


def decode_attributes(pairs: Iterable[otlp_common.KeyValue]) -> dict[str, AttributeValue]:
    """Attributes as plain values; what the model has no type for (maps, nested arrays, bytes) becomes text."""
    return {pair.key: decode_value(pair.value) for pair in pairs}


def decode_value(value: otlp_common.AnyValue) -> AttributeValue:
    """One value; an array keeps its scalars as a list."""
    if value.WhichOneof("value") == "array_value":
        return [_scalar(item) for item in value.array_value.values]
    return _scalar(value)


def _scalar(value: otlp_common.AnyValue) -> Scalar:
    match value.WhichOneof("value"):
        case "string_value":
            return str(value.string_value)
        case "bool_value":
            return bool(value.bool_value)
        case "int_value":
            return int(value.int_value)
        case "double_value":
            # JSON has no NaN and no infinity.
            return float(value.double_value) if math.isfinite(value.double_value) else str(value.double_value)
        case "bytes_value":
            return b64encode(value.bytes_value).decode()
        case "array_value":
            return json.dumps([decode_value(item) for item in value.array_value.values], ensure_ascii=False)
        case "kvlist_value":
            return json.dumps(decode_attributes(value.kvlist_value.values), ensure_ascii=False)
        case _:
            return ""
