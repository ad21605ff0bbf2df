"""Asks the inventory over RabbitMQ and matches the replies, each under the correlation id of its order."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from opentelemetry import trace
from opentelemetry.trace import SpanContext

from order_api.orders import Decision, Order, OrderStore, Recorded, ReplyKind
from shared.contract import topology
from shared.contract.errors import BrokerUnavailable, MalformedMessage, StoreUnavailable
from shared.contract.messages import (
    CHECK_TYPE,
    DECISION_TYPE,
    CheckInventory,
    InventoryDecision,
    OrderStatus,
    require_type,
)
from shared.rabbit import broker
from shared.rabbit.broker import Broker, Session
from shared.rabbit.settle import DeliveryOutcome
from shared.telemetry.relations import link_current_span
from shared.telemetry.semconv import LinkReason
from shared.telemetry.trace_context import span_context_of
from shared.tracing import instruments as metrics
from shared.tracing.seams import (
    describe_delivery,
    describe_order,
    describe_reply,
    describe_settlement,
)

REPLY_PREFETCH = 512

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reply:
    order: Order
    span: SpanContext
    """The process span of the reply, for whoever waited to link to."""


class Waiter:
    """One request that waits for the reply to its order."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()

    async def wait(self, deadline: float) -> Order | None:
        """Wait until a time of the event loop's clock for the decided order; None when it has not come by then."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout_at(deadline):
                reply = await self.reply
        except TimeoutError:
            return None
        finally:
            metrics.reply_wait.record(time.perf_counter() - started)
        link_current_span(reply.span, LinkReason.REPLY)
        return reply.order


class InventoryClient:
    """The reply queue of this instance, and who waits for what comes out of it."""

    def __init__(self, broker: Broker, store: OrderStore, instance: str) -> None:
        self._broker = broker
        self._store = store
        self._instance = instance
        self._reply_queue: str | None = None
        self._waiters: dict[str, list[Waiter]] = {}

    @property
    def waiting(self) -> int:
        """Count the requests that wait for a reply."""
        return sum(map(len, self._waiters.values()))

    async def on_connect(self, session: Session) -> None:
        """Declare what is needed and consume replies from a queue of this connection's own."""
        # The queue of the connection before is gone: nobody may be told to reply there.
        self._reply_queue = None
        await session.declare_topology()
        reply_queue = topology.reply_queue(self._instance)
        await session.consume(reply_queue, self.on_reply, prefetch=REPLY_PREFETCH, own=True)
        await session.consume(topology.SHARED_REPLIES, self.on_reply, prefetch=REPLY_PREFETCH)
        self._reply_queue = reply_queue

    @contextmanager
    def expect_reply(self, order_id: str) -> Iterator[Waiter]:
        """Register for the reply, before the question goes out; several requests may wait for one order."""
        waiter = Waiter()
        self._waiters.setdefault(order_id, []).append(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiters[order_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[order_id]

    async def ask(self, order: Order, timeout: float) -> None:
        """Publish the question, in `timeout` seconds; raises BrokerUnavailable or Unroutable."""
        if self._reply_queue is None:
            raise BrokerUnavailable("not connected to RabbitMQ")
        question = broker.message(
            CheckInventory(order_id=order.order_id, items=order.items).encode(),
            type=CHECK_TYPE,
            correlation_id=order.order_id,
            reply_to=self._reply_queue,
        )
        await self._broker.publish(topology.ORDERS_EXCHANGE, topology.INVENTORY_CHECK, question, timeout=timeout)

    async def on_reply(self, message: AbstractIncomingMessage) -> None:
        """Record the decision that a reply brings, wake who waits for it, then ack."""
        describe_delivery(message, topology.REPLY_QUEUE_TEMPLATE)
        try:
            decision = _read(message)
            recorded = await self._store.record(decision)
        except MalformedMessage as error:
            # Nobody can be told: the order stays pending, and the relay asks again.
            _log.warning("a reply cannot be read and is dropped: %s", error)
            describe_reply(ReplyKind.MALFORMED)
            describe_settlement(DeliveryOutcome.ACK, error.code, str(error))
        except StoreUnavailable as error:
            # The decision is safe with the worker: the relay asks again and gets the same one.
            _log.warning("a decision could not be recorded, it will be asked for again: %s", error)
            describe_settlement(DeliveryOutcome.ACK, error.code, str(error))
        else:
            describe_reply(self._announce(decision, recorded))
            describe_settlement(DeliveryOutcome.ACK)
        try:
            await message.ack()
        except (AMQPError, ChannelInvalidStateError):
            _log.info("a reply's channel is gone before its ack")

    def _announce(self, decision: Decision, recorded: Recorded | None) -> ReplyKind:
        """Wake whoever waits for the outcome of an order, and tell what the reply was."""
        if recorded is None:
            describe_order(decision.order_id)
            _log.warning("a reply for an order that is not known here", extra={"order_id": decision.order_id})
            return ReplyKind.FOREIGN
        order = recorded.order
        describe_order(order.order_id, order.status, order.reason)
        waiters = self._waiters.get(order.order_id, ())
        reply = _Reply(order, trace.get_current_span().get_span_context())
        for waiter in waiters:
            if not waiter.reply.done():
                waiter.reply.set_result(reply)
        if not recorded.is_new:
            return ReplyKind.DUPLICATE
        metrics.decided.add(1, {"status": order.status.value, "reason": metrics.reason_code(order.reason)})
        if waiters:
            return ReplyKind.MATCHED
        link_current_span(span_context_of(order.traceparent), LinkReason.LATE_REPLY_TO)
        return ReplyKind.LATE


def _read(message: AbstractIncomingMessage) -> Decision:
    require_type(message.type, DECISION_TYPE)
    decision = InventoryDecision.decode(message.body)
    if decision.status is OrderStatus.PENDING:
        raise MalformedMessage("a reply that decides nothing")
    if message.correlation_id != decision.order_id:
        raise MalformedMessage("the reply names another order than its correlation id")
    return Decision(decision.order_id, decision.status, decision.reason)
