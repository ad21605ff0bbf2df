"""What is told of a delivery, on its process span and in the metrics: that it came, what it was about, how it was settled."""

import time

from opentelemetry import trace
from opentelemetry.util import types

from shared.contract.envelope import Envelope
from shared.contract.errors import code_of, first_line
from shared.contract.messages import CheckInventory, InventoryDecision, OrderStatus
from shared.telemetry import LinkReason, delivery_failed, delivery_settled, link_current_span, semconv, span_context_of
from shared.tracing import instruments, names
from shared.tracing.orders import describe_order

LONGEST_QUEUE_WAIT = 30 * 24 * 3600.0
"""Seconds: what a stranger's header claims beyond it would only spoil the histogram."""


def arrived(envelope: Envelope, destination: str) -> None:
    """Tell what only the envelope knows: time in queue, and which attempt it is."""
    waited = _seconds_in_queue(envelope)
    measured = {semconv.MESSAGING_DESTINATION_NAME: destination}
    if waited is not None:
        instruments.queue_wait.record(waited, measured)
    if envelope.is_redelivered:
        instruments.redelivered.add(1, measured)
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes: dict[str, types.AttributeValue] = {
        semconv.DELIVERY_ATTEMPT: envelope.attempt,
        semconv.DELIVERY_REDELIVERED: envelope.is_redelivered,
    }
    if waited is not None:
        attributes[semconv.DELIVERY_QUEUE_WAIT_MS] = waited * 1000
    span.set_attributes(attributes)


def read(check: CheckInventory) -> None:
    """Tell what a check is about."""
    describe_order(check.order_id)


def decided(decision: InventoryDecision, decided_in: str | None) -> None:
    """Tell what was decided, and by which attempt where it was one before this."""
    describe_order(decision.order_id, decision.status, decision.reason)
    trace.get_current_span().set_attribute(names.INVENTORY_IN_STOCK, decision.status is OrderStatus.SUCCESS)
    link_current_span(span_context_of(decided_in), LinkReason.PREVIOUS_ATTEMPT)


def settled(outcome: str, error: Exception | None = None) -> None:
    """Tell how a delivery was settled and, where it failed, of what."""
    delivery_settled(outcome)
    if error is not None:
        failed(error)


def failed(error: Exception) -> None:
    """Tell of what a delivery failed."""
    delivery_failed(code_of(error), first_line(error))


def put_aside(source: str, outcome: str, code: str, detail: str) -> None:
    """Tell that a delivery held no message to work with, and count it."""
    settled(outcome)
    delivery_failed(code, detail)
    instruments.undecodable.add(1, {semconv.MESSAGING_DESTINATION_NAME: source, semconv.ERROR_TYPE: code})


def check_settled(outcome: str, error: Exception | None) -> None:
    """Tell how the delivery of a check was settled, and count it."""
    settled(outcome, error)
    instruments.settled.add(1, {"outcome": outcome, "reason": code_of(error) if error else "none"})


def withheld() -> None:
    """Count a decision that was sent to nobody, since its check named a queue that is none for replies."""
    instruments.replies_withheld.add(1)


def _seconds_in_queue(envelope: Envelope) -> float | None:
    if envelope.published_at is None:
        return None
    return min(max(0.0, time.time() - envelope.published_at), LONGEST_QUEUE_WAIT)
