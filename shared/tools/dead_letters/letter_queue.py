"""The queue of dead letters over one connection: taken in their order, settled or left, and what goes wrong in one sentence."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.abc import AbstractChannel as Channel
from aiormq.abc import DeliveredMessage

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable, Refused, Unroutable
from shared.rabbit.losses import losses_as_errors
from shared.tools import broker_nodes
from shared.tools.broker_nodes import NoNode
from shared.tools.dead_letters.letter import DeadLetter, describe
from shared.tools.tool_error import ToolError

ANSWER_SECONDS = 15.0
"""Longest wait for anything that the broker is asked."""
QUIET_SECONDS = 0.5
"""Without a letter for so long it is asked whether there is one."""
BACK_LOOKS, BACK_LOOK_SECONDS = 250, 0.02
"""How often it is asked whether the letters are back, at most: somebody else may have taken them by then."""
MOST_IN_HAND = 65_535
"""More than that AMQP gives no consumer."""


class DeadLetterError(ToolError):
    """The broker is not there, has no such dead letter, or refuses; the message is one sentence."""


class LetterQueueLost(DeadLetterError):
    """The broker is there no more, or refuses, in the middle of the work."""

    def __init__(self, clause: str) -> None:
        super().__init__(f"{clause}.")
        self.clause = clause
        """The message, for who has more to say in the same sentence."""


@dataclass(slots=True)
class Held:
    """A dead letter that was taken from its queue."""

    letter: DeadLetter
    message: DeliveredMessage
    is_settled: bool = False


class LetterQueue:
    """The queue of dead letters; what was taken from it and not settled returns, in its order, when this ends."""

    def __init__(self, node: str, looking: Channel, sending: AbstractChannel, counting: Channel) -> None:
        self._node = node
        self._looking = looking
        self._sending = sending
        self._counting = counting
        self._unsettled = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, amqp_url: str) -> AsyncIterator[Self]:
        """Connect to the first node of AMQP_URL that lets us in; raises DeadLetterError."""
        try:
            connection, node = await broker_nodes.connect(amqp_url)
        except NoNode as error:
            raise DeadLetterError(f"There is no connection to RabbitMQ at AMQP_URL: {error.tried or error}.") from error
        try:
            with _told(node):
                looking = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
                sending = await connection.channel(publisher_confirms=True, on_return_raises=True)
                queue = cls(node, looking, sending, await sending.get_underlay_channel())
            try:
                yield queue
            finally:
                with suppress(LetterQueueLost):
                    await queue._give_back()
        finally:
            with suppress(BrokerUnavailable), losses_as_errors():
                await asyncio.wait_for(connection.close(), ANSWER_SECONDS)

    async def count(self) -> int:
        """Count the letters that are there for anybody to take."""
        return await self._count(self._looking)

    async def _count(self, channel: Channel) -> int:
        with _told(self._node):
            declared = await channel.queue_declare(topology.DEAD_LETTERS, passive=True, timeout=ANSWER_SECONDS)
        return declared.message_count or 0

    async def _give_back(self) -> None:
        """Return what was not settled, and wait until it is back: the next command is to find it."""
        if not self._unsettled:
            return
        whole = await self.count() + self._unsettled
        with _told(self._node):
            # Letters that the end of a channel returns keep their order; those that are refused one and all do not.
            await self._looking.close()
        for _ in range(BACK_LOOKS):
            if await self._count(self._counting) >= whole:
                return
            await asyncio.sleep(BACK_LOOK_SECONDS)

    async def take(self, most: int, in_hand: int = MOST_IN_HAND) -> AsyncIterator[Held]:
        """Give up to `most` letters, oldest first, of which up to `in_hand` are in this process before they are settled.

        Where the next is asked for before this one is settled, it is left alone, and returns when all of this ends.
        """
        taken = 0
        while taken < most:
            credit, left_alone = min(in_hand, most - taken), 0
            arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
            async with self._consuming(arrived, credit):
                # Letters that are left alone use up what one consumer may hold.
                while taken < most and left_alone < credit:
                    message = await self._next(arrived)
                    if message is None:
                        return
                    held = Held(describe(message), message)
                    taken += 1
                    yield held
                    left_alone += not held.is_settled

    @asynccontextmanager
    async def _consuming(self, arrived: "asyncio.Queue[DeliveredMessage]", credit: int) -> AsyncIterator[None]:
        async def put(message: DeliveredMessage) -> None:
            self._unsettled += 1
            arrived.put_nowait(message)

        with _told(self._node):
            await self._looking.basic_qos(prefetch_count=credit, timeout=ANSWER_SECONDS)
            # Past the instrumentation of consumers: a look is no processing.
            consumer = await self._looking.basic_consume(topology.DEAD_LETTERS, put, timeout=ANSWER_SECONDS)
        yield
        with _told(self._node):
            await self._looking.basic_cancel(consumer.consumer_tag or "", timeout=ANSWER_SECONDS)

    async def _next(self, arrived: "asyncio.Queue[DeliveredMessage]") -> DeliveredMessage | None:
        """Wait for a letter; None where there is none any more."""
        deadline, times_empty = time.monotonic() + ANSWER_SECONDS, 0
        while times_empty < 2:  # the first may be wrong about a letter that is under way to us
            with suppress(TimeoutError):
                return await asyncio.wait_for(arrived.get(), QUIET_SECONDS)
            times_empty += not await self.count()
            if time.monotonic() > deadline:
                raise LetterQueueLost(f"RabbitMQ at {self._node} does not hand out the letters that it has")
        return None

    async def settle(self, held: Held) -> None:
        """Take a letter out of the queue; `flush` makes sure of it."""
        with _told(self._node):
            await self._looking.basic_ack(held.message.delivery_tag or 0)
        held.is_settled = True
        self._unsettled -= 1

    async def flush(self) -> None:
        """Return when the broker has seen every settlement so far."""
        # It does things in the order in which it was asked, and answers this one.
        await self.count()

    async def send(self, exchange: str, routing_key: str, message: Message) -> None:
        """Publish and wait for the confirm."""
        with _told(self._node, routing_key):
            if exchange:
                to = await self._sending.get_exchange(exchange, ensure=False)
            else:
                to = self._sending.default_exchange
            await to.publish(message, routing_key, mandatory=True, timeout=ANSWER_SECONDS)


@contextmanager
def _told(node: str, queue: str = topology.DEAD_LETTERS) -> Iterator[None]:
    """Say in a sentence what the client lost."""
    try:
        with losses_as_errors():
            yield
    except (Refused, Unroutable) as error:
        raise LetterQueueLost(f"{queue} at {node} takes no message: {error}") from error
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, ChannelNotFoundEntity):
            raise LetterQueueLost(
                f"RabbitMQ at {node} has no {queue}, which the services make when they start"
            ) from error
        raise LetterQueueLost(f"RabbitMQ at {node} was lost ({error})") from error
