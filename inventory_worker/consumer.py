"""One delivery: decide, commit, reply, and only then settle."""

import contextlib
import logging
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from pydantic import ValidationError

from inventory_worker.stock_store import Decision, Reservation, SqlStockStore
from shared.contract import topology
from shared.contract.errors import (
    BrokerUnavailable,
    StoreUnavailable,
    TooManyAttempts,
    TracedOrdersError,
    Unroutable,
    code_of,
    first_line,
)
from shared.contract.messages import (
    CHECK_TYPE,
    DEAD_LETTER_ATTEMPTS_HEADER,
    DEAD_LETTER_DETAIL_HEADER,
    DEAD_LETTER_ORIGIN_HEADER,
    DEAD_LETTER_REASON_HEADER,
    DECISION_TYPE,
    FAILURES_HEADER,
    CheckInventory,
    InventoryDecision,
    OrderStatus,
    require_type,
)
from shared.rabbit import broker
from shared.rabbit.broker import Broker, Session
from shared.rabbit.settle import DeliveryOutcome, Settlement, settle
from shared.telemetry.relations import link_current_span, previous_attempt
from shared.telemetry.semconv import LinkReason
from shared.telemetry.trace_context import current_traceparent, span_context_of
from shared.tracing import instruments as metrics
from shared.tracing.seams import (
    attempt_of,
    describe_delivery,
    describe_order,
    describe_settlement,
    describe_stock,
    failures_of,
    redeliveries_of,
)

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
        describe_delivery(message, topology.INVENTORY_CHECK)
        error: Exception | None = None
        try:
            if redeliveries_of(message) > topology.MAX_REDELIVERIES:
                # Whatever it does to the workers that try it, it must not do it for ever.
                raise TooManyAttempts(f"delivered {attempt_of(message)} times")
            await self._answer(message)
        except Exception as caught:
            error = caught
            if not isinstance(error, TracedOrdersError):
                _log.exception("handling a check failed")
        settlement = settle(error, failures_of(message))
        if error is None:
            describe_settlement(settlement.outcome)
        else:
            describe_settlement(settlement.outcome, code_of(error), first_line(error))
        metrics.settled.add(1, {"outcome": settlement.outcome.value, "reason": code_of(error) if error else "none"})
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
        try:
            await self._publish_reply(message.reply_to, message.correlation_id, decision)
        except Unroutable:
            # The instance that asked is gone, but its order is not: another instance takes the reply.
            if not message.reply_to.startswith(topology.REPLY_QUEUE_PREFIX):
                raise
            await self._publish_reply(topology.SHARED_REPLIES, message.correlation_id, decision)

    async def _publish_reply(self, queue: str, correlation_id: str | None, decision: InventoryDecision) -> None:
        reply = broker.message(decision.encode(), type=DECISION_TYPE, correlation_id=correlation_id)
        await self._broker.publish("", queue, reply)

    async def _carry_out(
        self, settlement: Settlement, message: AbstractIncomingMessage, error: Exception | None
    ) -> None:
        if settlement.outcome is DeliveryOutcome.RETRY:
            headers: dict[str, Any] = {FAILURES_HEADER: failures_of(message) + 1}
            await self._send_on(message, topology.retry_queue(settlement.delay), headers)
            _log.warning("attempt %d failed, next in %.1f s: %s", attempt_of(message), settlement.delay, error)
        elif settlement.outcome is DeliveryOutcome.DEAD_LETTER:
            await self._bury(message, settlement, error)
        await message.ack()

    async def _bury(self, message: AbstractIncomingMessage, settlement: Settlement, error: Exception | None) -> None:
        """Keep a hopeless check as a dead letter that says why, and tell the asker, whose order would wait for ever."""
        headers = {
            DEAD_LETTER_REASON_HEADER: settlement.reason,
            DEAD_LETTER_DETAIL_HEADER: first_line(error) if error else "",
            DEAD_LETTER_ORIGIN_HEADER: topology.INVENTORY_CHECK,
            DEAD_LETTER_ATTEMPTS_HEADER: attempt_of(message),
        }
        await self._send_on(message, topology.DEAD_LETTERS, headers)
        _log.error("a check is a dead letter: %s (%s)", settlement.reason, error)
        try:
            await self._reply(
                message, await self._refusal(message.correlation_id or "", f"dead_letter: {settlement.reason}")
            )
        except (ValidationError, Unroutable):
            _log.info("nobody to tell that a check is a dead letter")

    async def _refusal(self, order_id: str, reason: str) -> InventoryDecision:
        """Refuse an order, unless an attempt before this one has decided on it: then that decision is the truth."""
        with contextlib.suppress(StoreUnavailable):
            verdict = await self._store.find_verdict(order_id)
            if verdict is not None:
                return InventoryDecision(order_id=order_id, status=verdict.status, reason=verdict.reason)
        return InventoryDecision(order_id=order_id, status=OrderStatus.ERROR, reason=reason)

    async def _send_on(self, message: AbstractIncomingMessage, queue: str, headers: dict[str, Any]) -> None:
        """Publish a copy of a delivery to another queue, confirmed, with its properties and where it comes from."""
        copy = broker.message(
            message.body,
            type=message.type or "",
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            headers={**headers, **previous_attempt()},
        )
        await self._broker.publish("", queue, copy)
