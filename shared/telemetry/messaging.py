"""The messaging spans: the aio-pika instrumentation makes and propagates them, this module brings them up to date.

The instrumentation writes names and attributes of a convention long gone, and no links. It asks a tracer provider for its
tracer, so the correction stands there: `ConventionalTracerProvider` rewrites each span as it is started. A span processor
would come too late for two things: a sampler would decide on the old name, and the old attributes could not be taken
off again.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util import types
from opentelemetry.util._decorator import _agnosticcontextmanager

from shared import topology
from shared.messages import ATTEMPT_HEADER, PREVIOUS_ATTEMPT_HEADER, PUBLISHED_AT_HEADER
from shared.telemetry import semconv
from shared.telemetry.semconv import DeliveryOutcome, LinkReason
from shared.telemetry.trace_context import span_context_of

_QUEUES_BY_EXCHANGE = {topology.ORDERS_EXCHANGE: topology.INVENTORY_CHECK}


class ConventionalTracerProvider(trace.TracerProvider):
    """Gives the aio-pika instrumentation tracers that write the messaging conventions of today."""

    def __init__(self, inner: trace.TracerProvider) -> None:
        self._inner = inner

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,  # noqa: ARG002 - the one passed in names the old conventions
        attributes: types.Attributes | None = None,
    ) -> trace.Tracer:
        """Give a tracer whose spans are corrected as they start."""
        return _ConventionalTracer(
            self._inner.get_tracer(
                instrumenting_module_name, instrumenting_library_version, semconv.SCHEMA_URL, attributes
            )
        )


class _ConventionalTracer(trace.Tracer):
    def __init__(self, inner: trace.Tracer) -> None:
        self._inner = inner

    def start_span(
        self,
        name: str,  # noqa: ARG002 - the old name
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        operation = "process" if kind is SpanKind.CONSUMER else "send"
        destination, corrected = _correct(operation, attributes or {})
        if kind is SpanKind.CONSUMER:
            links = [*(links or ()), *_creation_link(context)]
        return self._inner.start_span(
            f"{operation} {destination}",
            context,
            kind,
            corrected,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
        )

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, end_on_exit: bool = True, **kwargs: Any) -> Iterator[Span]:
        with trace.use_span(self.start_span(*args, **kwargs), end_on_exit=end_on_exit) as span:
            yield span


def _correct(operation: str, old: Mapping[str, types.AttributeValue]) -> tuple[str, dict[str, types.AttributeValue]]:
    """Translate the instrumentation's attributes; returns the span name's destination and the attributes of today."""
    exchange, routing_key = _exchange_and_routing_key(operation, str(old.get("messaging.destination", "")))
    # The queue is left out of a consumer's destination where it is named after its routing key, as all of ours are.
    destination = f"{exchange}:{routing_key}" if exchange else routing_key
    corrected: dict[str, types.AttributeValue] = {
        semconv.MESSAGING_SYSTEM: "rabbitmq",
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_OPERATION_TYPE: operation,
        semconv.MESSAGING_DESTINATION_NAME: destination,
        semconv.MESSAGING_ROUTING_KEY: routing_key,
    }
    for old_name, new_name in _RENAMED.items():
        if old_name in old:
            corrected[new_name] = old[old_name]
    template = topology.destination_template(destination)
    if template is None:
        return destination, corrected
    corrected[semconv.MESSAGING_DESTINATION_TEMPLATE] = template
    corrected[semconv.MESSAGING_DESTINATION_TEMPORARY] = True
    return template, corrected


_RENAMED = {
    "messaging.message.id": semconv.MESSAGING_MESSAGE_ID,
    "messaging.conversation_id": semconv.MESSAGING_CONVERSATION_ID,
    "net.peer.name": semconv.SERVER_ADDRESS,
    "net.peer.port": semconv.SERVER_PORT,
}


def _exchange_and_routing_key(operation: str, destination: str) -> tuple[str, str]:
    """Read the instrumentation's destination: `exchange,routing_key` on a send, exchange or else queue on a process."""
    if operation == "send":
        exchange, _, routing_key = destination.partition(",")
        return exchange, routing_key
    if destination in _QUEUES_BY_EXCHANGE:
        return destination, _QUEUES_BY_EXCHANGE[destination]
    return "", destination


def _creation_link(context: Context | None) -> list[Link]:
    creation_context = trace.get_current_span(context).get_span_context()
    return [_link(creation_context, LinkReason.CREATION_CONTEXT)] if creation_context.is_valid else []


def _link(target: SpanContext, reason: LinkReason) -> Link:
    return Link(target, {semconv.LINK_REASON: reason.value})


def link_current_span(target: SpanContext | None, reason: LinkReason) -> None:
    """Link the current span to another one; a target that is unknown or invalid is no link."""
    if target is not None and target.is_valid:
        trace.get_current_span().add_link(target, {semconv.LINK_REASON: reason.value})


def describe_order(order_id: str, status: str | None = None, reason: str | None = None) -> None:
    """Say on the current span which order it is about and what became of it."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attribute(semconv.ORDER_ID, order_id)
    if status is not None:
        span.set_attribute(semconv.ORDER_STATUS, status)
    if reason is not None:
        span.set_attribute(semconv.ORDER_REASON, reason)


def describe_stock(in_stock: bool) -> None:
    """Say on the current process span whether the stock was there."""
    trace.get_current_span().set_attribute(semconv.INVENTORY_IN_STOCK, in_stock)


def describe_delivery(message: AbstractIncomingMessage) -> None:
    """Say on the current process span what only the delivery knows: tag, time in queue, attempt, the attempt before."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes: dict[str, types.AttributeValue] = {
        semconv.DELIVERY_ATTEMPT: attempt_of(message),
        semconv.DELIVERY_REDELIVERED: bool(message.redelivered),
    }
    if message.delivery_tag is not None:
        attributes[semconv.MESSAGING_DELIVERY_TAG] = message.delivery_tag
    published_at = message.headers.get(PUBLISHED_AT_HEADER)
    if isinstance(published_at, int):
        attributes[semconv.DELIVERY_QUEUE_WAIT_MS] = max(0.0, time.time_ns() / 1e6 - published_at / 1e3)
    span.set_attributes(attributes)
    previous = message.headers.get(PREVIOUS_ATTEMPT_HEADER)
    if isinstance(previous, str):
        link_current_span(span_context_of(previous), LinkReason.PREVIOUS_ATTEMPT)


def describe_settlement(outcome: DeliveryOutcome, error_type: str | None = None, detail: str | None = None) -> None:
    """Say on the current process span how its delivery was settled and, where it failed, of what."""
    span = trace.get_current_span()
    span.set_attribute(semconv.DELIVERY_OUTCOME, outcome.value)
    if error_type is not None:
        span.set_attribute(semconv.ERROR_TYPE, error_type)
        span.set_status(Status(StatusCode.ERROR, detail or error_type))


def attempt_of(message: AbstractIncomingMessage) -> int:
    """Count the deliveries of a message so far, this one included: our retries and the broker's redeliveries."""
    attempts = 1
    for header in (ATTEMPT_HEADER, "x-delivery-count"):
        count = message.headers.get(header)
        if isinstance(count, int) and 0 < count < 1_000_000:
            attempts += count
    return attempts


class ErrorTypeProcessor(SpanProcessor):
    """Gives each failed span the `error.type` that the conventions require, from the exception it recorded last."""

    def _on_ending(self, span: SdkSpan) -> None:
        if span.status.status_code is not StatusCode.ERROR or semconv.ERROR_TYPE in (span.attributes or {}):
            return
        for event in reversed(span.events):
            if exception_type := (event.attributes or {}).get("exception.type"):
                span.set_attribute(semconv.ERROR_TYPE, exception_type)
                return
