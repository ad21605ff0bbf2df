"""What is told of an order: on the span of the request that places it, on the one that brings its reply, and in the metrics."""

import time

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from shared.contract.errors import TracedOrdersError
from shared.telemetry import duplicate_of, late_reply_to, link_to_reply, semconv
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
    duplicate_of(placed_before_in)


def replied(kind: str) -> None:
    """Tell what a reply was to the orders here."""
    trace.get_current_span().set_attribute(semconv.DELIVERY_REPLY, kind)
    instruments.replies.add(1, {"kind": kind})


def decided(status: str, reason: str | None, accepted_at: float | None) -> None:
    """Count an order that has got its outcome, and how long after it was accepted where that is known (epoch seconds)."""
    instruments.decided.add(1, {"status": status, "reason": instruments.reason_code(reason)})
    if accepted_at is not None:
        instruments.end_to_end.record(max(0.0, time.time() - accepted_at), {"status": status})


def came_late(placed_in: str | None) -> None:
    """Tell that a reply came when nobody waited for it any more."""
    late_reply_to(placed_in)


def waited(seconds: float, reply: SpanContext | None) -> None:
    """Tell how long a request waited, and in which span the reply came that ended the wait."""
    instruments.reply_wait.record(seconds)
    link_to_reply(reply)


def here() -> SpanContext:
    """Give the current span, to be linked to from elsewhere."""
    return trace.get_current_span().get_span_context()


def sent_again() -> None:
    """Count a check that the relay repeated."""
    instruments.asked_again.add(1)
