"""The spans of an order, by hand: names, kinds, parents, links and attributes as the product's are."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

PUBLISHED_AT = "x-published-at-us"

_trace_context = TraceContextTextMapPropagator()
_tracer: Tracer = trace.get_tracer("floor")


@dataclass(frozen=True)
class Destination:
    """Where messages go or come from, and what every span about it is called and carries."""

    exchange: str
    routing_key: str
    name: str
    attributes: Mapping[str, AttributeValue]

    @classmethod
    def of(cls, exchange: str, routing_key: str, template: str | None, host: str, port: int) -> "Destination":
        """Describe a destination; `template` stands in span names for one whose name holds an id."""
        full = f"{exchange}:{routing_key}" if exchange else routing_key
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": full,
            "messaging.rabbitmq.destination.routing_key": routing_key,
            "server.address": host,
            "server.port": port,
        }
        if template is not None:
            attributes |= {"messaging.destination.template": template, "messaging.destination.temporary": True}
        return cls(exchange, routing_key, template or full, attributes)


def server(method: str, path: str, query: str, headers: Mapping[str, str], address: tuple[str, int]) -> Span:
    """Begin the span of a request, in its caller's trace where it has one."""
    return _tracer.start_span(
        f"{method} {path}",
        _trace_context.extract(headers, Context()) if "traceparent" in headers else Context(),
        SpanKind.SERVER,
        {
            "http.request.method": method,
            "http.route": path,
            "url.path": path,
            "url.query": query,
            "url.scheme": "http",
            "network.protocol.version": "1.1",
            "server.address": address[0],
            "server.port": address[1],
        },
    )


def send(to: Destination, parent: Span, message_id: str, correlation_id: str) -> tuple[Span, dict[str, Any]]:
    """Begin the span of a publish, and give it with the headers that carry its context."""
    span = _tracer.start_span(
        f"send {to.name}",
        trace.set_span_in_context(parent, Context()),
        SpanKind.PRODUCER,
        {**to.attributes, **_message("send", message_id, correlation_id)},
    )
    headers: dict[str, Any] = {PUBLISHED_AT: time.time_ns() // 1000}
    _trace_context.inject(headers, trace.set_span_in_context(span, Context()))
    return span, headers


def process(
    source: Destination, headers: Mapping[str, Any], message_id: str, correlation_id: str, tag: int, redelivered: bool
) -> Span:
    """Begin the span of a delivery: below the span that sent the message, and linked to it."""
    context = _trace_context.extract(headers, Context())
    return _tracer.start_span(
        f"process {source.name}",
        context,
        SpanKind.CONSUMER,
        {
            **source.attributes,
            **_message("process", message_id, correlation_id),
            "messaging.rabbitmq.message.delivery_tag": tag,
            "delivery.queue_wait_ms": max(0.0, time.time() * 1000 - headers[PUBLISHED_AT] / 1000),
            "delivery.attempt": 1 + headers.get("x-delivery-count", 0),
            "delivery.redelivered": redelivered,
        },
        [Link(trace.get_current_span(context).get_span_context(), {"link.reason": "creation_context"})],
    )


def commit(name: str, members: Sequence[SpanContext]) -> Span:
    """Begin the span of a transaction: below the one span that it serves, or linked to each of several."""
    traced = [member for member in members if member.trace_flags.sampled]
    if not traced:
        return trace.INVALID_SPAN
    attributes: dict[str, AttributeValue] = {
        "db.system.name": "sqlite",
        "db.operation.name": "BATCH",
        "db.query.summary": name,
        "db.operation.batch.size": len(members),
    }
    if len(traced) == 1:
        parent = trace.set_span_in_context(NonRecordingSpan(traced[0]), Context())
        return _tracer.start_span(name, parent, SpanKind.CLIENT, attributes)
    links = [Link(member, {"link.reason": "batch_member"}) for member in traced]
    return _tracer.start_span(name, Context(), SpanKind.CLIENT, attributes, links)


def _message(operation: str, message_id: str, correlation_id: str) -> dict[str, AttributeValue]:
    return {
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.message.id": message_id,
        "messaging.message.conversation_id": correlation_id,
    }


def traceparent(span: Span) -> str:
    """Write where a span is, to be stored with what it does; empty where nobody traces."""
    carrier: dict[str, str] = {}
    _trace_context.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")


def trace_id(span: Span) -> str:
    """Write the id of a span's trace."""
    return trace.format_trace_id(span.get_span_context().trace_id)


def link_to_previous_attempt(span: Span, stored: str) -> None:
    """Link to the span in which it was done before."""
    context = _trace_context.extract({"traceparent": stored}, Context())
    span.add_link(trace.get_current_span(context).get_span_context(), {"link.reason": "previous_attempt"})
