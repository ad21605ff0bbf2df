"""One connection to RabbitMQ, kept open: connect, set up, serve until it is lost, and again at the next URL.

aio-pika's robust connection is not used: it knows one URL, and it declares an exclusive queue again under its old name,
which a half-open connection still holds. Here everything a connection needs is set up anew by one function, so a reconnect
and a first connect are the same thing, and while there is no connection a call fails at once instead of waiting.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from shared.background import in_background
from shared.contract.errors import BrokerUnavailable, TracedOrdersError
from shared.rabbit.decoding import tolerate_undecodable
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.refusals import address, why_not
from shared.tracing.queues import ConnectionState

CONNECT_SECONDS = 5.0
SET_UP_SECONDS = 10.0
HEARTBEAT_SECONDS = 5
"""A peer that has gone silent is noticed after three times one second more than this, and up to half of this later."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
LOOK_SECONDS = 0.5
"""How often a connection is asked whether the broker blocks it: the client tells nobody when it learns of it."""

_log = logging.getLogger(__name__)


class Session:
    """One live connection."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self.lost = asyncio.Event()
        self.is_blocked = False
        """Whether the broker takes no publishes: it is short of memory or disk."""
        connection.close_callbacks.add(self.give_up)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: URL, name: str) -> AsyncIterator[Self]:
        """Connect; the connection ends with the context."""
        tolerate_undecodable()
        with losses_as_errors():
            connection = await aio_pika.connect(
                url.update_query(heartbeat=url.query.get("heartbeat", str(HEARTBEAT_SECONDS))),
                timeout=CONNECT_SECONDS,
                client_properties={"connection_name": name},
            )
        try:
            yield cls(connection)
        finally:
            with contextlib.suppress(BrokerUnavailable), losses_as_errors():
                await asyncio.wait_for(connection.close(), CONNECT_SECONDS)

    def give_up(self, *_: object) -> None:
        """End the session: the broker takes back every delivery that is not settled, and a new connection is made."""
        self.lost.set()

    async def open_channel(self, **options: Any) -> AbstractChannel:
        """Open a channel with whose end the session ends; raises BrokerUnavailable where the connection has gone."""
        try:
            channel = await self._connection.channel(**options)
            underlay = await channel.get_underlay_channel()
        except RuntimeError as error:  # which the client raises where its connection is closed already
            raise BrokerUnavailable("the connection has gone") from error
        # A confirm is waited for, and not before it that the socket has drained: until then the client locks the channel.
        for method in ("basic_publish", "basic_ack"):
            setattr(underlay, method, partial(getattr(underlay, method), wait=False))
        channel.close_callbacks.add(self.give_up)
        return channel

    def let_go(self, channel: AbstractChannel) -> None:
        """Let a channel end without the session."""
        channel.close_callbacks.discard(self.give_up)

    async def watch(self) -> None:
        """Return when the session is lost; keep `is_blocked` up to date until then."""
        transport = self._connection.transport
        while not self.lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), LOOK_SECONDS)
            is_blocked = transport is not None and not await _is_ready(transport.connection)
            if is_blocked is not self.is_blocked and not self.lost.is_set():
                self.is_blocked = is_blocked
                _log.warning("RabbitMQ blocks publishes" if is_blocked else "RabbitMQ takes publishes again")


async def _is_ready(client: Any) -> bool:
    try:
        await asyncio.wait_for(client.ready(), 0.01)
    except TimeoutError:
        return False
    return True


class Connection:
    """A connection that is kept open in the background, says when it is not there, and comes back by itself."""

    def __init__(self, urls: Sequence[str], name: str) -> None:
        self._urls = [URL(url) for url in urls]
        self._name = name
        self._session: Session | None = None
        self._why_not = "RabbitMQ"
        """What there is no connection to, and since a connection failed why."""
        self.is_up = asyncio.Event()
        """Set while it is connected and set up."""

    @contextlib.asynccontextmanager
    async def running(self, set_up: Callable[[Session], Awaitable[None]]) -> AsyncIterator[Self]:
        """Keep the connection while the context lasts, each new one set up by `set_up`."""
        async with in_background(partial(self._keep_open, set_up), self._name, patience=CONNECT_SECONDS + 1):
            yield self

    async def _keep_open(self, set_up: Callable[[Session], Awaitable[None]]) -> None:
        pause, attempt = FIRST_PAUSE, 0
        while True:
            url = self._urls[attempt % len(self._urls)]
            attempt += 1
            try:
                await self._serve_one(url, set_up)
                pause = FIRST_PAUSE
            except BrokerUnavailable as error:
                self._why_not = f"RabbitMQ at {address(url)}: {why_not(error, url)}"
                _log.warning("not connected to %s", self._why_not)
            except TracedOrdersError as error:
                _log.warning("not connected to RabbitMQ at %s: %s", address(url), error)
            except Exception:  # whatever it was, without this loop the service would stay cut off until a restart
                _log.exception("the connection to RabbitMQ failed")
            finally:
                self._end()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _serve_one(self, url: URL, set_up: Callable[[Session], Awaitable[None]]) -> None:
        """Connect, and return when the connection was made and lost; raises BrokerUnavailable when it could not be made."""
        async with Session.open(url, self._name) as session:
            # Deliveries may come as soon as it consumes.
            self._session = session
            with losses_as_errors():
                await asyncio.wait_for(set_up(session), SET_UP_SECONDS)
            self.is_up.set()
            self._why_not = "RabbitMQ"
            _log.info("connected to RabbitMQ at %s", address(url))
            await session.watch()
            self._end()
            _log.warning("connection to RabbitMQ lost")

    def _end(self) -> None:
        self._session = None
        self.is_up.clear()

    def session(self) -> Session:
        """Give the live session; raises BrokerUnavailable where there is none."""
        if self._session is None or self._session.lost.is_set():
            raise BrokerUnavailable(f"not connected to {self._why_not}")
        return self._session

    @property
    def is_usable(self) -> bool:
        """Tell whether it is there, set up and not blocked."""
        return self.is_up.is_set() and self._session is not None and not self._session.is_blocked

    def state(self) -> ConnectionState:
        """Tell whether it is there and set up, and whether the broker blocks it."""
        return ConnectionState(self.is_up.is_set(), self._session is not None and self._session.is_blocked)

    async def ping(self) -> None:
        """Raise BrokerUnavailable unless it is connected, set up and not blocked by the broker."""
        session = self.session()
        if not self.is_up.is_set():
            raise BrokerUnavailable("connected to RabbitMQ, but not set up yet")
        if session.is_blocked:
            raise BrokerUnavailable("RabbitMQ blocks this connection: it is short of memory or disk")


async def ping_all(*connections: Connection) -> None:
    """Raise BrokerUnavailable unless every one of them is there."""
    for connection in connections:
        await connection.ping()
