"""The seams at which the way of an order is told: on the current span and in the metrics."""

import time
from enum import StrEnum

from aio_pika.abc import AbstractIncomingMessage
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util import types

from shared.contract.messages import FAILURES_HEADER, PUBLISHED_AT_HEADER
from shared.telemetry import semconv
from shared.telemetry.relations import link_to_related
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


def describe_stock(in_stock: bool) -> None:
    """Say on the current process span whether the stock was there."""
    trace.get_current_span().set_attribute(names.INVENTORY_IN_STOCK, in_stock)


def describe_deferral(error: Exception, error_type: str) -> None:
    """Say on the current request's span that its question could not be published yet, and why."""
    trace.get_current_span().add_event(names.ASK_DEFERRED, {semconv.ERROR_TYPE: error_type, "detail": str(error)})


def describe_reply(kind: StrEnum) -> None:
    """Say on the current process span what a reply was to the orders here, and count it."""
    trace.get_current_span().set_attribute(semconv.DELIVERY_REPLY, kind.value)
    instruments.replies.add(1, {"kind": kind.value})


def describe_delivery(message: AbstractIncomingMessage, destination: str) -> None:
    """Say on the current process span what only the delivery knows: tag, time in queue, attempt, what came before."""
    waited = _seconds_in_queue(message)
    if waited is not None:
        instruments.queue_wait.record(waited, {semconv.MESSAGING_DESTINATION_NAME: destination})
    if message.redelivered:
        instruments.redelivered.add(1, {semconv.MESSAGING_DESTINATION_NAME: destination})
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
    link_to_related(message.headers)


def _seconds_in_queue(message: AbstractIncomingMessage) -> float | None:
    published_at = message.headers.get(PUBLISHED_AT_HEADER)
    if not isinstance(published_at, int) or isinstance(published_at, bool):
        return None
    return min(max(0.0, time.time() - published_at / 1e6), _LONGEST_QUEUE_WAIT)


_LONGEST_QUEUE_WAIT = 30 * 24 * 3600.0
"""Seconds: what a stranger's header claims beyond it would only spoil the histogram."""


def describe_settlement(outcome: StrEnum, error_type: str | None = None, detail: str | None = None) -> None:
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
