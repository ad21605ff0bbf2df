"""Publishing with confirms: mandatory, under a deadline, over a new channel once the broker has refused."""

import asyncio
import contextlib
from typing import Self

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import DeliveryError, PublishError

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable, TracedOrdersError
from shared.rabbit.connection import CONNECT_SECONDS, Connection, Session
from shared.rabbit.declarations import declare
from shared.rabbit.losses import losses_as_errors

PUBLISH_SECONDS = 3.0


class _Channel:
    """A channel that publishes, and closes only when nothing waits on it any more."""

    def __init__(self, channel: AbstractChannel, orders: AbstractExchange) -> None:
        self.channel = channel
        self._exchanges = {"": channel.default_exchange, topology.ORDERS_EXCHANGE: orders}
        self._unconfirmed = 0
        self._is_retired = False

    @classmethod
    async def open(cls, session: Session) -> Self:
        """Open the channel."""
        channel = await session.open_channel(publisher_confirms=True, on_return_raises=True)
        return cls(channel, await channel.get_exchange(topology.ORDERS_EXCHANGE, ensure=False))

    async def publish(
        self, exchange: str, routing_key: str, message: Message, timeout: float, is_mandatory: bool
    ) -> None:
        """Publish and wait for the confirm."""
        self._unconfirmed += 1
        try:
            # The deadline is the client's own, so that the send span ends with the error and not with a mere cancellation.
            await self._exchanges[exchange].publish(message, routing_key, mandatory=is_mandatory, timeout=timeout)
        finally:
            self._unconfirmed -= 1
            await self._close_when_idle()

    async def retire(self) -> None:
        """Close the channel as soon as nothing waits on it any more."""
        self._is_retired = True
        await self._close_when_idle()

    async def _close_when_idle(self) -> None:
        if self._is_retired and not self._unconfirmed:
            with contextlib.suppress(BrokerUnavailable), losses_as_errors():
                await asyncio.wait_for(self.channel.close(), CONNECT_SECONDS)


class Publisher:
    """Publishes over one connection; give `set_up` to the connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channel: _Channel | None = None
        self._renewing = asyncio.Lock()

    async def set_up(self, session: Session) -> None:
        """Declare what can be published to, and open the channel that publishes."""
        self._channel = None
        await declare(session, topology.QUEUES)
        await self.open(session)

    async def open(self, session: Session) -> None:
        """Open the channel that publishes."""
        self._channel = await _Channel.open(session)

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        message: Message,
        *,
        timeout: float = PUBLISH_SECONDS,
        is_mandatory: bool = True,
    ) -> None:
        """Publish and wait for the broker's confirm, in at most `timeout` seconds.

        Raises Unroutable when no queue takes it and `is_mandatory` says that one must, Refused when a queue would not,
        BrokerUnavailable when there was no confirm: then it may or may not have arrived.
        """
        session = self.connection.session()
        if session.is_blocked:
            raise BrokerUnavailable("RabbitMQ blocks publishes")
        channel = self._channel
        if channel is None:
            raise BrokerUnavailable("not connected to RabbitMQ")
        with losses_as_errors():
            try:
                await channel.publish(exchange, routing_key, message, timeout, is_mandatory)
            except DeliveryError as error:
                if not isinstance(error, PublishError):
                    with contextlib.suppress(TracedOrdersError), losses_as_errors():
                        await self._renew(session, channel)
                raise

    async def _renew(self, session: Session, refused: _Channel) -> None:
        """Publish over a new channel from now on.

        RabbitMQ 3.10 refuses all that a channel publishes to a quorum queue when its first message came while the queue had
        no leader: not until there is one again, but until the node of the leader before is back.
        """
        async with self._renewing:
            if self._channel is not refused:
                return
            self._channel = await asyncio.wait_for(_Channel.open(session), CONNECT_SECONDS)
        session.let_go(refused.channel)
        await refused.retire()
