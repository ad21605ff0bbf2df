"""Consumes one queue: a bounded number of deliveries at a time, each handled to its end; suspects alone; drained at the end."""

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable
from shared.contract.messages import MAX_MESSAGE_BYTES
from shared.rabbit.connection import Session
from shared.rabbit.decoding import bound_bodies
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.poison import put_aside

OnDelivery = Callable[[AbstractIncomingMessage], Coroutine[Any, Any, None]]

_log = logging.getLogger(__name__)


class _Pace(enum.Enum):
    """How many deliveries are held at a time."""

    MANY = enum.auto()
    NARROWING = enum.auto()
    """No more are taken; those in hand are finished."""
    ALONE = enum.auto()


class Consumer:
    """Hands the deliveries of a queue to a callback, at most `prefetch` unsettled ones at a time.

    A body of more than `max_bytes` is not read, and what cannot be decoded is put aside.

    A delivery that `is_suspect` of ending the process is the only one held while it is handled, so that no other is counted
    as redelivered with it. Therefore each connection begins with one delivery at a time, and takes more of them from the
    first on that is no suspect.
    """

    def __init__(
        self,
        on_delivery: OnDelivery,
        *,
        prefetch: int,
        max_bytes: int = MAX_MESSAGE_BYTES,
        is_suspect: Callable[[AbstractIncomingMessage], bool] | None = None,
    ) -> None:
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._max_bytes = max_bytes
        self._is_suspect = is_suspect
        self._pace = _Pace.MANY
        self._is_paused = False
        self._session: Session | None = None
        self._queue: AbstractQueue | None = None
        self._tag: str | None = None
        self._channel: AbstractChannel | None = None
        self._changing = asyncio.Lock()
        self._name = self._destination = ""
        self._in_hand = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._repacing: asyncio.Task[None] | None = None

    async def start(self, session: Session, queue: str, *, own: bool = False) -> None:
        """Consume over a new connection.

        `own` declares the queue first, exclusive to the connection. A consumer that the broker cancels ends the session.
        """
        self._session = session
        if self._repacing is not None:
            self._repacing.cancel()
        channel = await session.open_channel(publisher_confirms=False)
        await bound_bodies(channel, self._max_bytes)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(session.give_up)
        self._name, self._destination = queue, topology.destination_template(queue) or queue
        declared = (
            await channel.declare_queue(queue, exclusive=True) if own else await channel.get_queue(queue, ensure=False)
        )
        async with self._changing:
            self._channel, self._queue, self._tag = channel, declared, None
            self._pace = _Pace.MANY if self._is_suspect is None else _Pace.ALONE
            await self._consume()

    def give_up(self) -> None:
        """Give the connection up, so that its queues are declared anew and the broker takes back what is not settled."""
        if self._session is not None:
            self._session.give_up()

    async def pause(self) -> None:
        """Take no further deliveries; those taken stay in hand."""
        self._is_paused = True
        async with self._changing:
            await self._cancel()

    async def resume(self) -> None:
        """Take deliveries again."""
        self._is_paused = False
        async with self._changing:
            with contextlib.suppress(BrokerUnavailable), losses_as_errors():
                await self._consume()

    async def drain(self) -> None:
        """Take no further deliveries, and wait until those taken are handled."""
        await self.pause()
        await self._is_idle.wait()

    async def _consume(self) -> None:
        if self._queue is None or self._channel is None or self._tag is not None or self._is_paused:
            return
        await self._channel.set_qos(prefetch_count=1 if self._pace is _Pace.ALONE else self._prefetch)
        self._tag = await self._queue.consume(self._take)

    async def _cancel(self) -> None:
        if self._queue is not None and self._tag is not None:
            tag, self._tag = self._tag, None
            with contextlib.suppress(BrokerUnavailable), losses_as_errors():
                await self._queue.cancel(tag)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if self._is_suspect is not None and not await self._may_handle(message, self._is_suspect(message)):
            return
        self._in_hand += 1
        self._is_idle.clear()
        try:
            if not await put_aside(message, self._name):
                await _to_its_end(self._on_delivery(message))
        finally:
            self._in_hand -= 1
            if not self._in_hand:
                self._is_idle.set()

    async def _may_handle(self, message: AbstractIncomingMessage, is_suspect: bool) -> bool:
        """Tell whether a delivery may be handled now; a suspect that is not alone goes back, and comes again alone."""
        if is_suspect is (self._pace is _Pace.ALONE):
            return True
        if self._pace is _Pace.NARROWING and not is_suspect:
            return True
        if not is_suspect:
            self._change(_Pace.MANY)
            return True
        if self._pace is _Pace.MANY:
            _log.warning("a suspect in %s: one delivery at a time", self._destination)
            self._change(_Pace.NARROWING)
        with contextlib.suppress(BrokerUnavailable), losses_as_errors():
            await message.nack(requeue=True)
        return False

    def _change(self, pace: "_Pace") -> None:
        self._pace = pace
        self._repacing = asyncio.create_task(self._consume_anew(pace), name="consume anew")

    async def _consume_anew(self, pace: "_Pace") -> None:
        async with self._changing:
            await self._cancel()
        if pace is _Pace.NARROWING:
            await self._is_idle.wait()
            if self._pace is _Pace.NARROWING:
                self._pace = _Pace.ALONE
        async with self._changing:
            with contextlib.suppress(BrokerUnavailable), losses_as_errors():
                await self._consume()


async def drain(*consumers: Consumer, timeout: float) -> None:
    """Take no further deliveries and finish those taken, in at most `timeout` seconds; the rest the broker takes back."""
    with contextlib.suppress(BrokerUnavailable, TimeoutError), losses_as_errors():
        await asyncio.wait_for(asyncio.gather(*(consumer.drain() for consumer in consumers)), timeout)


async def _to_its_end(handling: Coroutine[Any, Any, None]) -> None:
    """Let the handling of a delivery finish even when the client cancels it, as it does with the connection.

    What the handler has begun goes on anyway, a commit above all; so that its span tells how that ended, and whoever waits
    for it is woken, the cancellation is passed on only afterwards.
    """
    task = asyncio.ensure_future(handling)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
