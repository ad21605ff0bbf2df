"""What is told of an order: on the span of the request that places it, on the one that brings its reply, and in the metrics."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import SpanContext

from shared.contract.errors import TracedOrdersError
from shared.telemetry import semconv
from shared.telemetry.relations import link_current_span
from shared.telemetry.semconv import LinkReason
from shared.telemetry.trace_context import context_of, span_context_of
from shared.tracing import instruments, names


def describe_order(order_id: str, status: str | None = None, reason: str | None = None) -> None:
    """Say on the current span which order it is about and what became of it."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attribute(names.ORDER_ID, order_id)
    if status is not None:
        span.set_attribute(names.ORDER_STATUS, status)
    if reason is not None:
        span.set_attribute(names.ORDER_REASON, reason)


def placed(kind: str, status: str, deferred: TracedOrdersError | None, placed_before_in: str | None) -> None:
    """Tell how a request placed its order: whether its check had to be deferred, and in which context it was placed before."""
    instruments.placed.add(1, {"outcome": kind, "status": status})
    if deferred is not None:
        details = {semconv.ERROR_TYPE: deferred.code, "detail": str(deferred)}
        trace.get_current_span().add_event(names.ASK_DEFERRED, details)
    link_current_span(span_context_of(placed_before_in), LinkReason.DUPLICATE_OF)


def replied(kind: str) -> None:
    """Tell what a reply was to the orders here."""
    trace.get_current_span().set_attribute(semconv.DELIVERY_REPLY, kind)
    instruments.replies.add(1, {"kind": kind})


def decided(status: str, reason: str | None) -> None:
    """Count an order that has got its outcome."""
    instruments.decided.add(1, {"status": status, "reason": instruments.reason_code(reason)})


def came_late(placed_in: str | None) -> None:
    """Tell that a reply came when nobody waited for it any more."""
    link_current_span(span_context_of(placed_in), LinkReason.LATE_REPLY_TO)


def waited(seconds: float, reply: SpanContext | None) -> None:
    """Tell how long a request waited, and in which span the reply came that ended the wait."""
    instruments.reply_wait.record(seconds)
    link_current_span(reply, LinkReason.REPLY)


def here() -> SpanContext:
    """Give the current span, to be linked to from elsewhere."""
    return trace.get_current_span().get_span_context()


@contextmanager
def within(traceparent: str | None) -> Iterator[None]:
    """Do something in a trace context that was stored."""
    token = context.attach(context_of(traceparent))
    try:
        yield
    finally:
        context.detach(token)


def sent_again() -> None:
    """Count a check that the relay repeated."""
    instruments.asked_again.add(1)
