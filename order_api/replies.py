"""The replies to the checks of this instance: each is matched to its order, recorded, and wakes who waits for it."""

import enum
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from aio_pika.abc import AbstractIncomingMessage

from order_api.orders import Decision, OrderStore, Recorded
from order_api.reply_reading import read_decision, read_delay
from order_api.waiter import Reply, Waiter
from shared.contract import envelope as envelopes
from shared.contract import topology
from shared.contract.envelope import Envelope
from shared.contract.errors import (
    BrokerUnavailable,
    MalformedMessage,
    StoreUnavailable,
    TracedOrdersError,
    Unavailable,
    WriteFailed,
)
from shared.contract.messages import CheckDelayed
from shared.rabbit.connection import Session
from shared.rabbit.consumer import Consumer
from shared.rabbit.declarations import declare
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.resource import Resource
from shared.rabbit.settle import DeliveryOutcome
from shared.tracing import deliveries as delivery_told
from shared.tracing import orders as told

PREFETCH = 512

_log = logging.getLogger(__name__)


class ReplyKind(enum.StrEnum):
    """What a reply is to the orders here: the value of `delivery.reply`."""

    MATCHED = "matched"
    LATE = "late"
    """Nobody waits any more: the request timed out, or the relay asked."""
    DUPLICATE = "duplicate"
    """The order has its outcome already."""
    FOREIGN = "foreign"
    """No such order."""
    DELAYED = "delayed"
    """Nothing is decided: the check has failed, and will be tried again."""
    MALFORMED = "malformed"


class Replies:
    """The reply queues of this instance, and who waits for what comes out of them."""

    def __init__(
        self,
        store: OrderStore,
        instance: str,
        ping: Callable[[], Awaitable[None]],
        *,
        on_decided: Callable[[str], None],
        on_delayed: Callable[[str, float], Awaitable[None]],
        max_message_bytes: int,
    ) -> None:
        self._store = store
        self._instance = instance
        self._on_decided = on_decided
        self._on_delayed = on_delayed
        self._own, self._shared = (
            Consumer(self.take, prefetch=PREFETCH, max_bytes=max_message_bytes) for _ in range(2)
        )
        self.consumers = self._own, self._shared
        self._is_stopping = False
        self._waiters: dict[str, list[Waiter]] = {}
        self._database = Resource("database", ping, self._own, self._shared)
        self.answered_until = 0.0
        """When the latest of the checks was published that have been replied to, in seconds since the epoch."""
        self.queue: str | None = None
        """Where checks are to be replied to; None until there is such a queue."""

    @property
    def waiting(self) -> int:
        """Count the requests that wait for a reply."""
        return sum(map(len, self._waiters.values()))

    async def set_up(self, session: Session) -> None:
        """Declare what is needed and consume replies, from a queue of this connection's own and from the shared one."""
        # The queue of the connection before is gone: nobody may be told to reply there.
        self.queue = None
        await declare(session, topology.QUEUES)
        queue = topology.reply_queue(self._instance)
        await self._own.start(session, queue, own=True)
        await self._shared.start(session, topology.SHARED_REPLIES)
        self.queue = queue

    @contextmanager
    def expect(self, order_id: str) -> Iterator[Waiter]:
        """Register for the reply, before the check goes out; several requests may wait for one order."""
        waiter = Waiter()
        if self._is_stopping:
            waiter.give_up()
        self._waiters.setdefault(order_id, []).append(waiter)
        try:
            yield waiter
        finally:
            if waiter.waited:
                told.waited(waiter.waited, waiter.came_in)
            waiters = self._waiters[order_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[order_id]

    def stop_waiting(self) -> None:
        """End the wait of whoever waits, and of whoever still comes: the process ends."""
        self._is_stopping = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.give_up()

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Record the decision that a reply brings, wake who waits for it, then ack."""
        envelope = envelopes.read(message)
        _log.debug("a reply has arrived", extra={"order_id": envelope.correlation_id})
        delivery_told.arrived(envelope, topology.REPLY_QUEUE_TEMPLATE)
        error: TracedOrdersError | None = None
        try:
            if envelope.type == CheckDelayed.TYPE:
                await self._postpone(read_delay(envelope, message.body))
            else:
                await self._record(read_decision(envelope, message.body))
            self._note_evidence(envelope)
        except MalformedMessage as malformed:
            # Nobody can be told: the order stays pending, and the relay asks again.
            error = malformed
            _log.warning("a reply cannot be read and is dropped: %s", error)
            told.replied(ReplyKind.MALFORMED)
        except (Unavailable, WriteFailed) as away:
            # The decision is safe with the worker: the relay asks again and gets the same one.
            error = away
            _log.warning("a decision could not be recorded, it will be asked for again: %s", error)
        delivery_told.settled(DeliveryOutcome.ACK, error)
        try:
            with losses_as_errors():
                await message.ack()
        except BrokerUnavailable:
            _log.info("a reply's channel is gone before its ack")

    async def _record(self, decision: Decision) -> None:
        recorded = await self._database.run(lambda: self._store.record(decision))
        waiting = next(iter(self._waiters.get(decision.order_id, ())), None)
        kind = self._match(decision, recorded)
        told.replied(kind)
        if recorded is not None and recorded.is_new:
            accepted_at = await self._came_late(decision.order_id) if waiting is None else waiting.since
            told.decided(recorded.outcome.status, recorded.outcome.reason, accepted_at)
            _log.info("an order is decided: %s", recorded.outcome.status, extra={"order_id": decision.order_id})

    async def _came_late(self, order_id: str) -> float | None:
        """Link to where an order was placed that nobody waits for any more, and tell when that was."""
        with suppress(StoreUnavailable):
            order = await self._store.get(order_id)
            if order is not None:
                told.came_late(order.traceparent)
                return order.created_at
        return None

    async def _postpone(self, delayed: CheckDelayed) -> None:
        """Take word that a check is tried again by the inventory itself: it is not lost."""
        told.describe_order(delayed.order_id)
        await self._database.run(lambda: self._on_delayed(delayed.order_id, delayed.seconds))
        told.replied(ReplyKind.DELAYED)

    def _note_evidence(self, envelope: Envelope) -> None:
        """Note how far the check queue has been worked off; a time that has not come yet is a stranger's."""
        if envelope.asked_at is not None and self.answered_until < envelope.asked_at <= time.time():
            self.answered_until = envelope.asked_at

    def _match(self, decision: Decision, recorded: Recorded | None) -> ReplyKind:
        """Wake whoever waits for the outcome of an order, and tell what the reply was."""
        if recorded is None:
            told.describe_order(decision.order_id)
            _log.warning("a reply for an order that is not known here", extra={"order_id": decision.order_id})
            return ReplyKind.FOREIGN
        order_id, outcome = recorded.order_id, recorded.outcome
        self._on_decided(order_id)
        told.describe_order(order_id, outcome.status, outcome.reason)
        waiters = self._waiters.get(order_id, ())
        for waiter in waiters:
            waiter.wake(Reply(outcome, told.here()))
        if not recorded.is_new:
            return ReplyKind.DUPLICATE
        return ReplyKind.MATCHED if waiters else ReplyKind.LATE
