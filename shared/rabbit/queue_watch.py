"""Watches the queues for everybody: whoever holds an exclusive queue, which is the lock, asks the broker."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import httpx
from yarl import URL

from shared.background import in_background
from shared.contract import topology
from shared.contract.errors import BrokerUnavailable, TracedOrdersError, first_line
from shared.rabbit.connection import Connection, Session
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.queue_reading import READ_SECONDS, from_broker, from_management, usual_management_url
from shared.tracing.queues import QueueReading

LOCK = "orders.queue-watch"
"""Of a fixed name, unlike a reply queue: after a half-open connection nobody watches until the broker has noticed it."""
LOOK_SECONDS = 5.0
"""The broker itself counts every 5 s."""

_log = logging.getLogger(__name__)


class QueueWatch:
    """Keeps the latest readings while this process is the one that watches; none otherwise."""

    def __init__(self, connection: Connection, urls: Sequence[str], management_url: str | None) -> None:
        self._connection = connection
        self._nodes = [URL(url) for url in urls]
        self._management_url = management_url
        self._has_management: bool | None = None
        self.readings: Sequence[QueueReading] = ()

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Watch, or wait to, while the context lasts."""
        return in_background(self._run, "queue watch")

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=READ_SECONDS, trust_env=False) as http:
            while True:
                try:
                    await self._watch(http)
                except TracedOrdersError as error:
                    # Somebody else watches, or the broker is away: both are usual.
                    _log.debug("the queues are not watched from here: %s", error)
                except Exception:  # without this loop nobody would watch until a restart
                    _log.exception("watching the queues failed")
                self.readings = ()
                await asyncio.sleep(LOOK_SECONDS)

    async def _watch(self, http: httpx.AsyncClient) -> None:
        """Take the lock, and look until the session is lost; raises BrokerUnavailable while somebody else holds it."""
        session = self._connection.session()
        with losses_as_errors():
            channel = await session.open_channel(publisher_confirms=False)
            # The broker ends it where somebody else holds the lock, and the session must not end with it.
            session.let_go(channel)
            await channel.declare_queue(LOCK, exclusive=True, auto_delete=True)
        while not session.lost.is_set():
            if channel.is_closed:
                raise BrokerUnavailable("the lock of the queue watch is gone")
            self.readings = await self._read(http, session)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.lost.wait(), LOOK_SECONDS)

    async def _read(self, http: httpx.AsyncClient, session: Session) -> Sequence[QueueReading]:
        why = "RABBITMQ_MANAGEMENT_URL names none, and there is a guess for this machine only"
        for node in self._nodes:
            url = self._management_url or usual_management_url(node)
            if url is None:
                continue
            try:
                found = await from_management(http, node, url)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
                why = first_line(error)
            else:
                self._has_management = True
                return found
        if self._has_management is not False:
            _log.info(
                "no management interface of RabbitMQ answers (%s): of the queues only depth and consumers are known",
                why,
            )
            self._has_management = False
        names = (*(queue.name for queue in topology.QUEUES), *map(topology.retry_queue, topology.RETRY_DELAYS))
        return await from_broker(session, names)
