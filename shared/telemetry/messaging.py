"""The messaging spans: the aio-pika instrumentation makes and propagates them, this module brings them up to date.

The instrumentation writes names and attributes of a convention long gone, and no links. It asks a tracer provider for its
tracer, so the correction stands there: `ConventionalTracerProvider` rewrites each span as it is started. A span processor
would come too late for two things: a sampler would decide on the old name, and the old attributes could not be taken
off again.
"""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util import types
from opentelemetry.util._decorator import _agnosticcontextmanager

from shared import topology
from shared.messages import FAILURES_HEADER, PREVIOUS_ATTEMPT_HEADER, PUBLISHED_AT_HEADER, REPLAY_HEADER
from shared.telemetry import metrics, semconv
from shared.telemetry.semconv import DeliveryOutcome, LinkReason, ReplyKind
from shared.telemetry.trace_context import span_context_of

_QUEUES_BY_EXCHANGE = {topology.ORDERS_EXCHANGE: topology.INVENTORY_CHECK}


class ConventionalTracerProvider(trace.TracerProvider):
    """Gives the aio-pika instrumentation tracers that write the messaging conventions of today.

    `follows_parents` says that nothing is sampled below a span that is not: then nothing is made of it either.
    """

    def __init__(self, inner: trace.TracerProvider, *, follows_parents: bool = False) -> None:
        self._inner = inner
        self._follows_parents = follows_parents

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
            ),
            self._follows_parents,
        )


class _ConventionalTracer(trace.Tracer):
    def __init__(self, inner: trace.Tracer, follows_parents: bool) -> None:
        self._inner = inner
        self._follows_parents = follows_parents

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
        parent = trace.get_current_span(context).get_span_context()
        if self._follows_parents and parent.is_valid and not parent.trace_flags.sampled:
            return NonRecordingSpan(parent)
        operation = "process" if kind is SpanKind.CONSUMER else "send"
        new_name, corrected = _correct(operation, attributes or {})
        if kind is SpanKind.CONSUMER and parent.is_valid:
            links = [*(links or ()), Link(parent, {semconv.LINK_REASON: LinkReason.CREATION_CONTEXT.value})]
        return self._inner.start_span(
            new_name,
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


def _correct(operation: str, old: Mapping[str, types.AttributeValue]) -> tuple[str, Mapping[str, types.AttributeValue]]:
    """Translate the instrumentation's attributes; returns the span's name and the attributes of today."""
    name, corrected = _describe_destination(operation, str(old.get("messaging.destination", "")))
    return name, {**corrected, **{new: old[former] for former, new in _RENAMED.items() if former in old}}


@functools.lru_cache(maxsize=256)
def _describe_destination(operation: str, old: str) -> tuple[str, Mapping[str, types.AttributeValue]]:
    """Give the name of the spans of an operation on the instrumentation's destination, and the attributes they share."""
    exchange, routing_key = _exchange_and_routing_key(operation, old)
    # The queue is left out of a consumer's destination where it is named after its routing key, as all of ours are.
    destination = f"{exchange}:{routing_key}" if exchange else routing_key
    attributes: dict[str, types.AttributeValue] = {
        semconv.MESSAGING_SYSTEM: "rabbitmq",
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_OPERATION_TYPE: operation,
        semconv.MESSAGING_DESTINATION_NAME: destination,
        semconv.MESSAGING_ROUTING_KEY: routing_key,
    }
    template = topology.destination_template(destination)
    if template is None:
        return f"{operation} {destination}", attributes
    attributes[semconv.MESSAGING_DESTINATION_TEMPLATE] = template
    if template == topology.REPLY_QUEUE_TEMPLATE:
        attributes[semconv.MESSAGING_DESTINATION_TEMPORARY] = True
    return f"{operation} {template}", attributes


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


def describe_deferral(error: Exception, error_type: str) -> None:
    """Say on the current request's span that its question could not be published yet, and why."""
    trace.get_current_span().add_event(semconv.ASK_DEFERRED, {semconv.ERROR_TYPE: error_type, "detail": str(error)})


def describe_reply(kind: ReplyKind) -> None:
    """Say on the current process span what a reply was to the orders here, and count it."""
    trace.get_current_span().set_attribute(semconv.DELIVERY_REPLY, kind.value)
    metrics.replies.add(1, {"kind": kind.value})


def describe_delivery(message: AbstractIncomingMessage, destination: str) -> None:
    """Say on the current process span what only the delivery knows: tag, time in queue, attempt, what came before."""
    waited = _seconds_in_queue(message)
    if waited is not None:
        metrics.queue_wait.record(waited, {semconv.MESSAGING_DESTINATION_NAME: destination})
    if message.redelivered:
        metrics.redelivered.add(1, {semconv.MESSAGING_DESTINATION_NAME: destination})
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes: dict[str, types.AttributeValue] = {
        semconv.DELIVERY_ATTEMPT: attempt_of(message),
        semconv.DELIVERY_REDELIVERED: bool(message.redelivered),
    }
    if message.delivery_tag is not None:
        attributes[semconv.MESSAGING_DELIVERY_TAG] = message.delivery_tag
    if waited is not None:
        attributes[semconv.DELIVERY_QUEUE_WAIT_MS] = waited * 1000
    span.set_attributes(attributes)
    for header, reason in _LINKING_HEADERS.items():
        target = message.headers.get(header)
        if isinstance(target, str):
            link_current_span(span_context_of(target), reason)


_LINKING_HEADERS = {
    PREVIOUS_ATTEMPT_HEADER: LinkReason.PREVIOUS_ATTEMPT,
    REPLAY_HEADER: LinkReason.REPLAY_OF,
}


def _seconds_in_queue(message: AbstractIncomingMessage) -> float | None:
    published_at = message.headers.get(PUBLISHED_AT_HEADER)
    if not isinstance(published_at, int) or isinstance(published_at, bool):
        return None
    return min(max(0.0, time.time() - published_at / 1e6), _LONGEST_QUEUE_WAIT)


_LONGEST_QUEUE_WAIT = 30 * 24 * 3600.0
"""Seconds: what a stranger's header claims beyond it would only spoil the histogram."""


def describe_settlement(outcome: DeliveryOutcome, error_type: str | None = None, detail: str | None = None) -> None:
    """Say on the current process span how its delivery was settled and, where it failed, of what."""
    span = trace.get_current_span()
    span.set_attribute(semconv.DELIVERY_OUTCOME, outcome.value)
    if error_type is not None:
        span.set_attribute(semconv.ERROR_TYPE, error_type)
        span.set_status(Status(StatusCode.ERROR, detail or error_type))


def attempt_of(message: AbstractIncomingMessage) -> int:
    """Count the deliveries of a message so far, this one included: our retries and the broker's redeliveries."""
    return 1 + failures_of(message) + redeliveries_of(message)


def failures_of(message: AbstractIncomingMessage) -> int:
    """Count the attempts that failed before and were retried."""
    return _count(message, FAILURES_HEADER)


def redeliveries_of(message: AbstractIncomingMessage) -> int:
    """Count the deliveries before that were never settled."""
    # On a first delivery the header is not the broker's, but whatever its sender wrote.
    return _count(message, "x-delivery-count") if message.redelivered else 0


def _count(message: AbstractIncomingMessage, header: str) -> int:
    count = message.headers.get(header)
    return count if isinstance(count, int) and 0 < count < 1_000_000 else 0
