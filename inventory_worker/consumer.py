"""One delivery: decide, commit, reply, and only then settle."""

import logging
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from inventory_worker.settle import Settlement, settle
from inventory_worker.stock_store import Decision, Reservation, SqlStockStore
from shared import broker, topology
from shared.broker import Broker, Session
from shared.errors import BrokerUnavailable, MalformedMessage, TracedOrdersError, Unroutable
from shared.messages import (
    ATTEMPT_HEADER,
    CHECK_TYPE,
    DECISION_TYPE,
    PREVIOUS_ATTEMPT_HEADER,
    CheckInventory,
    InventoryDecision,
    OrderStatus,
    require_type,
)
from shared.telemetry.messaging import (
    attempt_of,
    describe_delivery,
    describe_order,
    describe_settlement,
    describe_stock,
    link_current_span,
)
from shared.telemetry.semconv import DeliveryOutcome, LinkReason
from shared.telemetry.trace_context import current_traceparent, span_context_of

PREFETCH = 128

_log = logging.getLogger(__name__)


class Consumer:
    """Takes inventory checks from the queue and answers them."""

    def __init__(self, broker: Broker, store: SqlStockStore) -> None:
        self._broker = broker
        self._store = store

    async def on_connect(self, session: Session) -> None:
        """Declare what is needed and consume the checks, a bounded number at a time."""
        await session.declare_topology()
        await session.consume(topology.INVENTORY_CHECK, self.on_delivery, prefetch=PREFETCH)

    async def on_delivery(self, message: AbstractIncomingMessage) -> None:
        """Handle one delivery and settle it; a cancelled one stays unsettled, so that the broker hands it out again."""
        describe_delivery(message)
        error: Exception | None = None
        try:
            await self._answer(message)
        except Exception as caught:
            error = caught
            if not isinstance(error, TracedOrdersError):
                _log.exception("handling a check failed")
        settlement = settle(error, attempt_of(message))
        describe_settlement(
            settlement.outcome, None if error is None else _code(error), None if error is None else str(error)
        )
        try:
            await self._carry_out(settlement, message, error)
        except (BrokerUnavailable, Unroutable) as failed:
            # It can be neither settled nor sent on. Ending the connection gives it back to the queue.
            _log.warning("a delivery could not be sent on: %s", failed)
            self._broker.abandon()
        except (AMQPError, ChannelInvalidStateError):
            _log.info("a delivery's channel is gone before its ack: it will be delivered again")

    async def _answer(self, message: AbstractIncomingMessage) -> None:
        require_type(message.type, CHECK_TYPE)
        check = CheckInventory.decode(message.body)
        describe_order(check.order_id)
        decision = await self._store.reserve(Reservation(check, current_traceparent()))
        verdict = decision.verdict
        describe_order(check.order_id, verdict.status, verdict.reason)
        describe_stock(verdict.status is OrderStatus.SUCCESS)
        self._link_to_first(decision)
        await self._reply(
            message, InventoryDecision(order_id=check.order_id, status=verdict.status, reason=verdict.reason)
        )

    def _link_to_first(self, decision: Decision) -> None:
        if not decision.is_new:
            link_current_span(span_context_of(decision.traceparent), LinkReason.PREVIOUS_ATTEMPT)

    async def _reply(self, message: AbstractIncomingMessage, decision: InventoryDecision) -> None:
        if message.reply_to is None:
            return
        reply = broker.message(decision.encode(), type=DECISION_TYPE, correlation_id=message.correlation_id)
        await self._broker.publish("", message.reply_to, reply)

    async def _carry_out(
        self, settlement: Settlement, message: AbstractIncomingMessage, error: Exception | None
    ) -> None:
        if settlement.outcome is DeliveryOutcome.RETRY:
            headers: dict[str, Any] = {ATTEMPT_HEADER: attempt_of(message)}
            await self._send_on(message, topology.retry_queue(settlement.delay), headers)
            _log.warning("attempt %d failed, next in %.1f s: %s", attempt_of(message), settlement.delay, error)
        elif settlement.outcome is DeliveryOutcome.DEAD_LETTER:
            await self._bury(message, settlement, error)
        await message.ack()

    async def _bury(self, message: AbstractIncomingMessage, settlement: Settlement, error: Exception | None) -> None:
        """Keep a hopeless message as a dead letter that says why, and tell the asker, whose order would wait for ever."""
        headers = {
            "x-dead-letter-reason": settlement.reason,
            "x-dead-letter-detail": str(error)[:200],
            "x-dead-letter-origin": topology.INVENTORY_CHECK,
            "x-dead-letter-attempts": attempt_of(message),
        }
        await self._send_on(message, topology.DEAD_LETTERS, headers)
        _log.error("a check is a dead letter: %s (%s)", settlement.reason, error)
        order_id = message.correlation_id
        if isinstance(error, MalformedMessage) or not isinstance(error, BrokerUnavailable):
            await self._refuse(message, order_id, f"dead_letter: {settlement.reason}")

    async def _refuse(self, message: AbstractIncomingMessage, order_id: str | None, reason: str) -> None:
        try:
            refusal = InventoryDecision(order_id=order_id or "", status=OrderStatus.ERROR, reason=reason)
            await self._reply(message, refusal)
        except (ValueError, Unroutable):
            _log.info("nobody to tell that a check became a dead letter")

    async def _send_on(self, message: AbstractIncomingMessage, queue: str, headers: dict[str, Any]) -> None:
        """Publish a copy of a delivery to another queue, confirmed, with its properties and where it comes from."""
        copy = broker.message(
            message.body,
            type=message.type or "",
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            headers={**headers, PREVIOUS_ATTEMPT_HEADER: current_traceparent() or ""},
        )
        await self._broker.publish("", queue, copy)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, TracedOrdersError) else type(error).__qualname__
