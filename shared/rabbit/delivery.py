"""One delivery of a check, from arrival to settlement: handle, reply, and only then ack; or retry, or make it a dead letter."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from aio_pika.abc import AbstractIncomingMessage

from shared.contract import envelope as envelopes
from shared.contract import topology
from shared.contract.envelope import Death, Envelope
from shared.contract.errors import BrokerUnavailable, TooManyAttempts, TracedOrdersError, Unroutable, first_line
from shared.contract.messages import MAX_MESSAGE_BYTES, CheckDelayed, CheckInventory, InventoryDecision, require_type
from shared.rabbit.connection import Session
from shared.rabbit.consumer import Consumer
from shared.rabbit.declarations import declare
from shared.rabbit.holding import NoLongerHeld, while_held
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.publisher import Publisher
from shared.rabbit.reply import Told, reply
from shared.rabbit.resource import Resource
from shared.rabbit.settle import GIVEN_BACK, DeliveryOutcome, Settlement, settle
from shared.telemetry import previous_attempt
from shared.tracing import deliveries as told

PREFETCH = 128
SHORTEST_TOLD_DELAY = 5.0
"""Seconds that a check waits for its next attempt, from which on its asker is told so."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handled:
    """What a handler made of a check."""

    decision: InventoryDecision
    decided_in: str | None = None
    """The trace context of the attempt that decided, where it was one before this."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What a service does with checks."""

    handle: Callable[[CheckInventory], Awaitable[Handled]]
    refuse: Callable[[str, str], Awaitable[InventoryDecision]]
    """Gives what the asker is told when the check of an order is a dead letter, from the order's id and the reason."""
    resource: str
    ping: Callable[[], Awaitable[None]]
    """Raises Unavailable while the resource that it needs is away."""


class Deliveries:
    """Handles each delivery of the check queue, and settles it by what became of it."""

    def __init__(
        self,
        publisher: Publisher,
        handler: Handler,
        *,
        retry_delays: Sequence[float] = topology.RETRY_DELAYS,
        reply_prefixes: Sequence[str] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._publisher = publisher
        self._handler = handler
        self._retry_delays = retry_delays
        self._reply = partial(reply, publisher, trusted=(*topology.REPLY_QUEUE_PREFIXES, *reply_prefixes))
        self.consumer = Consumer(self.take, prefetch=PREFETCH, max_bytes=max_message_bytes, is_suspect=_is_suspect)
        self._resource = Resource(handler.resource, handler.ping, self.consumer)

    async def set_up(self, session: Session) -> None:
        """Declare what is needed, and consume the checks."""
        queues = (*topology.QUEUES, *topology.retry_queues(self._retry_delays))
        await declare(session, queues)
        await self.consumer.start(session, topology.INVENTORY_CHECK)

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Handle one delivery and settle it; what cannot be settled stays with the broker, which hands it out again."""
        envelope = envelopes.read(message)
        _log.debug("a check has arrived", extra={"order_id": envelope.correlation_id})
        told.arrived(envelope, topology.INVENTORY_CHECK)
        error: Exception | None = None
        if envelope.redeliveries >= topology.TOLD_REDELIVERIES:
            # Others overtake it, while whatever takes it is gone: asked for again, its copies would be new to all counts.
            await self._tell_asker(envelope, partial(_delayed, envelope, topology.SUSPECT_SECONDS))
        try:
            decision = await self._resource.run(lambda: self._handle(envelope, message.body))
            await while_held(message, lambda: self._reply(envelope, decision))
        except NoLongerHeld as gone:
            told.failed(gone)
            _log.info("a delivery's channel is gone before its reply: it will be delivered again")
            return
        except Exception as caught:
            error = caught
            if not isinstance(error, TracedOrdersError):
                _log.exception("handling a check failed", extra={"order_id": envelope.correlation_id})
        settlement = settle(error, envelope.failures, self._retry_delays)
        told.check_settled(settlement.outcome, error)
        try:
            await self._carry_out(settlement, message, envelope, error)
            with losses_as_errors():
                await message.ack()
            _log.info("a check is settled: %s", settlement.outcome, extra={"order_id": envelope.correlation_id})
        except BrokerUnavailable:
            _log.info("a delivery's channel is gone before its ack: it will be delivered again")
        except Unroutable as failed:
            # Somebody has deleted a queue of ours. A new connection declares it, and takes the delivery again.
            _log.warning("a check cannot be sent on: %s", failed)
            self.consumer.give_up()

    async def _handle(self, envelope: Envelope, body: bytes) -> InventoryDecision:
        if envelope.redeliveries > topology.MAX_REDELIVERIES:
            # Whatever it does to the workers that try it, it must not do it for ever.
            raise TooManyAttempts(f"delivered {envelope.attempt} times")
        require_type(envelope.type, CheckInventory.TYPE)
        check = CheckInventory.decode(body)
        told.read(check)
        handled = await self._handler.handle(check)
        told.decided(handled.decision, handled.decided_in)
        _log.debug("a check is decided: %s", handled.decision.status, extra={"order_id": check.order_id})
        return handled.decision

    async def _carry_out(
        self, settlement: Settlement, message: AbstractIncomingMessage, envelope: Envelope, error: Exception | None
    ) -> None:
        which = {"order_id": envelope.correlation_id}
        if settlement == GIVEN_BACK:
            await self._send_on(message, envelope, topology.INVENTORY_CHECK, failures=envelope.failures)
            _log.warning("a check was held for as long as may be, and goes back: %s", error, extra=which)
        elif settlement.outcome is DeliveryOutcome.RETRY:
            queue = topology.retry_queue(settlement.delay)
            await self._send_on(message, envelope, queue, failures=envelope.failures + 1)
            _log.warning(
                "attempt %d failed, next in %.1f s: %s", envelope.attempt, settlement.delay, error, extra=which
            )
            if settlement.delay >= SHORTEST_TOLD_DELAY:
                await self._tell_asker(envelope, partial(_delayed, envelope, settlement.delay))
        elif settlement.outcome is DeliveryOutcome.DEAD_LETTER:
            reason, detail = settlement.reason or "unknown", first_line(error) if error else ""
            death = Death(reason, detail, topology.INVENTORY_CHECK, envelope.attempt)
            await self._send_on(message, envelope, topology.DEAD_LETTERS, death=death)
            _log.error("a check is a dead letter: %s (%s)", reason, error, extra=which)
            refuse = partial(self._handler.refuse, envelope.correlation_id or "", f"dead_letter: {reason}")
            await self._tell_asker(envelope, refuse)

    async def _send_on(
        self,
        message: AbstractIncomingMessage,
        envelope: Envelope,
        queue: str,
        *,
        failures: int = 0,
        death: Death | None = None,
    ) -> None:
        """Publish a copy of a delivery to another queue, confirmed, with its properties and where it comes from."""

        async def send() -> None:
            copy = envelopes.message(
                message.body,
                type=envelope.type or "",
                correlation_id=envelope.correlation_id,
                reply_to=envelope.reply_to,
                failures=failures,
                death=death,
                relations=previous_attempt(),
            )
            await self._publisher.publish("", queue, copy)

        await while_held(message, send, and_refused=True)

    async def _tell_asker(self, envelope: Envelope, what: Callable[[], Awaitable[Told]]) -> None:
        """Tell the asker of a check that is tried later or no more, for whom it would look lost; it is settled all the same."""
        try:
            await self._reply(envelope, await what())
        except Exception as error:  # it is a courtesy: whatever is wrong with the asker must not bring the check back
            _log.info("nobody to tell what became of a check: %s", first_line(error))


async def _delayed(envelope: Envelope, seconds: float) -> CheckDelayed:
    return CheckDelayed(order_id=envelope.correlation_id or "", seconds=seconds)


def _is_suspect(message: AbstractIncomingMessage) -> bool:
    return envelopes.read(message).redeliveries >= topology.SUSPECT_REDELIVERIES
