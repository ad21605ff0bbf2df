"""One connection to RabbitMQ, kept open: connect, set up, serve until it is lost, and again at the next URL.

aio-pika's robust connection is not used: it knows one URL, and it declares an exclusive queue again under its old name,
which a half-open connection still holds. Here everything a connection needs is set up anew by one function, so a reconnect
and a first connect are the same thing, and while there is no connection a publish fails at once instead of waiting.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

import aio_pika
import aiormq
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import DeliveryError, PublishError
from yarl import URL

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable, Unroutable, first_line
from shared.contract.messages import CONTENT_TYPE, PUBLISHED_AT_HEADER
from shared.telemetry import semconv
from shared.tracing import instruments as metrics

CONNECT_SECONDS = 5.0
PUBLISH_SECONDS = 3.0
HEARTBEAT_SECONDS = 5
"""A peer that has gone silent is noticed after three times one second more than this, and up to half of this later."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

OnMessage = Callable[[AbstractIncomingMessage], Coroutine[Any, Any, None]]
_LOST = (
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,
    ConnectionError,
    OSError,
    TimeoutError,
)
"""What the client raises when a connection or channel is lost, refused or too slow."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def _lost_is_an_error() -> Iterator[None]:
    """Raise ConnectionError for the odd ways in which the client ends what waits on a connection that it has lost.

    It cancels, which would end our own task too, or raises a bare Exception or StopAsyncIteration.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection has gone silent") from error
    except Exception as error:
        if type(error) not in {Exception, StopAsyncIteration}:
            raise
        raise ConnectionError("the connection has gone") from error


def message(
    body: bytes,
    *,
    type: str,  # noqa: A002 - the name of the AMQP property
    correlation_id: str | None,
    reply_to: str | None = None,
    headers: dict[str, Any] | None = None,
) -> Message:
    """Make a persistent message with headers of its own: two messages that share them would share a traceparent."""
    now = time.time_ns()
    return Message(
        body,
        type=type,
        message_id=uuid4().hex,
        correlation_id=correlation_id,
        reply_to=reply_to,
        timestamp=datetime.fromtimestamp(now // 1_000_000_000, UTC),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={**(headers or {}), PUBLISHED_AT_HEADER: now // 1000},
    )


class _Publisher:
    """A channel that publishes with confirms."""

    def __init__(self, channel: AbstractChannel, orders: AbstractExchange) -> None:
        self.channel = channel
        self._exchanges = {"": channel.default_exchange, topology.ORDERS_EXCHANGE: orders}
        self._unconfirmed = 0
        self._is_retired = False

    @classmethod
    async def open(cls, connection: AbstractConnection) -> Self:
        """Open the channel."""
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        return cls(channel, await channel.get_exchange(topology.ORDERS_EXCHANGE, ensure=False))

    async def publish(self, exchange: str, routing_key: str, outgoing: Message, timeout: float) -> None:
        """Publish and wait for the broker's confirm; mandatory, so that a message nobody takes comes back as an error."""
        self._unconfirmed += 1
        try:
            # The deadline is the client's own, so that the send span ends with the error and not with a mere cancellation.
            await self._exchanges[exchange].publish(outgoing, routing_key, mandatory=True, timeout=timeout)
        finally:
            self._unconfirmed -= 1
            await self._close_when_idle()

    async def retire(self) -> None:
        """Close the channel as soon as nothing waits on it any more."""
        self._is_retired = True
        await self._close_when_idle()

    async def _close_when_idle(self) -> None:
        if self._is_retired and not self._unconfirmed:
            with contextlib.suppress(*_LOST):
                await asyncio.wait_for(self.channel.close(), CONNECT_SECONDS)


class Session:
    """One live connection: a channel that publishes with confirms, and channels that consume."""

    def __init__(self, connection: AbstractConnection, publisher: _Publisher) -> None:
        self._connection = connection
        self._publisher = publisher
        self._renewing = asyncio.Lock()
        self._consumers: list[tuple[AbstractQueue, str]] = []
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.lost = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: URL, client_name: str) -> AsyncIterator[Self]:
        """Connect and open the publishing channel; everything ends with the context."""
        with _lost_is_an_error():
            connection = await aio_pika.connect(
                url.update_query(heartbeat=url.query.get("heartbeat", str(HEARTBEAT_SECONDS))),
                timeout=CONNECT_SECONDS,
                client_properties={"connection_name": client_name},
            )
        try:
            publisher = await _Publisher.open(connection)
            session = cls(connection, publisher)
            connection.close_callbacks.add(session._on_lost)
            publisher.channel.close_callbacks.add(session._on_lost)
            yield session
        finally:
            with contextlib.suppress(*_LOST):
                await asyncio.wait_for(connection.close(), CONNECT_SECONDS)

    def _on_lost(self, *_: object) -> None:
        self.lost.set()

    def abandon(self) -> None:
        """Give the connection up: the broker takes back every delivery that is not settled, and a new one is made."""
        self.lost.set()

    async def declare_topology(self) -> None:
        """Declare every exchange, queue and binding; what exists already with the same arguments stays as it is."""
        channel = self._publisher.channel
        orders = await channel.declare_exchange(topology.ORDERS_EXCHANGE, ExchangeType.TOPIC, durable=True)
        for queue in topology.QUEUES:
            declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
            if queue.routing_key is not None:
                await declared.bind(orders, queue.routing_key)

    async def consume(self, queue: str, on_message: OnMessage, *, prefetch: int, own: bool = False) -> None:
        """Deliver the queue's messages to a callback, at most `prefetch` unsettled ones at a time.

        `own` declares the queue first, exclusive to this connection. A consumer that the broker cancels ends the session.
        """
        channel = await self._connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(self._on_lost)
        await channel.set_qos(prefetch_count=prefetch)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._on_lost)
        declared = (
            await channel.declare_queue(queue, exclusive=True) if own else await channel.get_queue(queue, ensure=False)
        )

        measured = _attributes("process", topology.destination_template(queue) or queue)

        async def tracked(delivery: AbstractIncomingMessage) -> None:
            self._in_flight += 1
            self._idle.clear()
            started = time.perf_counter()
            metrics.consumed_messages.add(1, measured)
            try:
                await _to_its_end(on_message(delivery))
            finally:
                metrics.process_duration.record(time.perf_counter() - started, measured)
                self._in_flight -= 1
                if not self._in_flight:
                    self._idle.set()

        self._consumers.append((declared, await declared.consume(tracked)))

    async def drain(self) -> None:
        """Take no further deliveries, and wait until those taken are handled."""
        for queue, tag in self._consumers:
            await queue.cancel(tag)
        self._consumers.clear()
        await self._idle.wait()

    async def publish(self, exchange: str, routing_key: str, outgoing: Message, timeout: float) -> None:
        """Publish and wait for the broker's confirm, over a new channel from then on when the broker refuses."""
        publisher = self._publisher
        try:
            await publisher.publish(exchange, routing_key, outgoing, timeout)
        except DeliveryError as error:
            if not isinstance(error, PublishError):
                await self._renew(publisher)
            raise

    async def _renew(self, refused: _Publisher) -> None:
        """Publish over a new channel from now on.

        RabbitMQ 3.10 refuses all that a channel publishes to a quorum queue when its first message came while the queue had
        no leader: not until there is one again, but until the node of the leader before is back.
        """
        async with self._renewing:
            if self._publisher is not refused:
                return
            self._publisher = await asyncio.wait_for(_Publisher.open(self._connection), CONNECT_SECONDS)
        self._publisher.channel.close_callbacks.add(self._on_lost)
        refused.channel.close_callbacks.discard(self._on_lost)
        await refused.retire()


class Broker:
    """The connection of one service: runs in the background, publishes while it is there, says when it is not."""

    def __init__(self, urls: Sequence[str], client_name: str) -> None:
        self._urls = [URL(url) for url in urls]
        self._client_name = client_name
        self._session: Session | None = None
        self.connected = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, on_connect: Callable[[Session], Awaitable[None]]) -> AsyncIterator[Self]:
        """Keep the connection while the context lasts, each new one set up by `on_connect`."""
        keeper = asyncio.create_task(self._keep_connected(on_connect), name="broker-connection")
        try:
            yield self
        finally:
            # Once may not be enough: while the client gives up a silent connection it takes our cancellation for its own.
            while not keeper.done():
                keeper.cancel()
                await asyncio.wait([keeper], timeout=CONNECT_SECONDS + 1)

    async def _keep_connected(self, on_connect: Callable[[Session], Awaitable[None]]) -> None:
        pause, attempt = FIRST_PAUSE, 0
        while True:
            url = self._urls[attempt % len(self._urls)]
            attempt += 1
            try:
                with _lost_is_an_error():
                    await self._serve_one(url, on_connect)
                pause = FIRST_PAUSE
            except _LOST as error:
                _log.warning("no RabbitMQ at %s:%s: %s", url.host, url.port or 5672, first_line(error))
            except Exception:  # whatever it was, without this loop the service would stay cut off until a restart
                _log.exception("the connection to RabbitMQ failed")
            finally:
                self._disconnected()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _serve_one(self, url: URL, on_connect: Callable[[Session], Awaitable[None]]) -> None:
        """Connect, and return when the connection was made and lost; raises one of _LOST when it could not be made."""
        async with Session.open(url, self._client_name) as session:
            # Deliveries may come as soon as it consumes, and are answered over this very session.
            self._session = session
            await asyncio.wait_for(on_connect(session), CONNECT_SECONDS * 2)
            self.connected.set()
            _log.info("connected to RabbitMQ at %s:%s", url.host, url.port or 5672)
            await session.lost.wait()
            self._disconnected()
            _log.warning("connection to RabbitMQ lost")

    def _disconnected(self) -> None:
        self._session = None
        self.connected.clear()

    async def publish(
        self, exchange: str, routing_key: str, outgoing: Message, *, timeout: float = PUBLISH_SECONDS
    ) -> None:
        """Publish under a deadline in seconds; raises BrokerUnavailable, or Unroutable when no queue takes it."""
        session = self.session()
        destination = topology.destination_template(routing_key) or routing_key
        measured = _attributes("send", f"{exchange}:{destination}" if exchange else destination)
        started = time.perf_counter()
        try:
            with _lost_is_an_error():
                await session.publish(exchange, routing_key, outgoing, timeout)
        except PublishError as returned:
            measured[semconv.ERROR_TYPE] = Unroutable.code
            raise Unroutable(f"no queue takes messages for {routing_key!r}") from returned
        except _LOST as error:
            measured[semconv.ERROR_TYPE] = BrokerUnavailable.code
            raise BrokerUnavailable(f"not confirmed: {first_line(error)}") from error
        finally:
            metrics.sent_messages.add(1, measured)
            metrics.operation_duration.record(time.perf_counter() - started, measured)

    def session(self) -> Session:
        """Give the live session; raises BrokerUnavailable where there is none."""
        if self._session is None or self._session.lost.is_set():
            raise BrokerUnavailable("not connected to RabbitMQ")
        return self._session

    def abandon(self) -> None:
        """Give the connection up, so that the broker hands every delivery that is not settled out again."""
        if self._session is not None:
            self._session.abandon()

    async def ping(self) -> None:
        """Raise BrokerUnavailable unless connected, set up and consuming."""
        self.session()
        if not self.connected.is_set():
            raise BrokerUnavailable("connected to RabbitMQ, but not consuming yet")

    async def drain(self, timeout: float) -> None:
        """Take no further deliveries and finish those taken, in at most `timeout` seconds; the rest the broker takes back."""
        with contextlib.suppress(BrokerUnavailable, *_LOST), _lost_is_an_error():
            await asyncio.wait_for(self.session().drain(), timeout)


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


def _attributes(operation: str, destination: str) -> dict[str, str]:
    return {
        semconv.MESSAGING_SYSTEM: "rabbitmq",
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_DESTINATION_NAME: destination,
    }
