"""What a single service sees of a node that fails: it publishes again within seconds, over another node."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from shared.contract import envelope
from shared.contract.errors import TracedOrdersError
from shared.contract.topology import SHARED_REPLIES
from shared.rabbit.connection import Connection
from shared.rabbit.publisher import Publisher
from tests.scale.cluster import private_cluster

PUBLISHERS = 10
FAILOVER_SECONDS = 20.0


class Client:
    """A client of the cluster that publishes all the time, and knows when it last succeeded."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.confirmed = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish while the context lasts."""
        publishing = asyncio.create_task(self._publish())
        try:
            yield
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])

    async def _publish(self) -> None:
        while True:
            with contextlib.suppress(TracedOrdersError):
                await self._publisher.publish(
                    "", SHARED_REPLIES, envelope.message(b"", type="test", correlation_id=None)
                )
                self.confirmed = time.monotonic()
            await asyncio.sleep(0.02)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_who_reconnects_before_a_queue_has_a_new_leader_publishes_to_it_soon_after(tmp_path: Path) -> None:
    """The node that leads a queue loses power, and stays away.

    Services that were connected to it are at the next node within a tenth of a second, before the other two have noticed
    and elected. RabbitMQ 3.10 refuses what comes over such an early channel even after the election.
    """
    with private_cluster(tmp_path) as cluster:
        urls = [cluster.nodes[name].amqp_url for name in ("second", "third", "first")]
        clients: list[Client] = []
        async with AsyncExitStack() as stack:
            for number in range(PUBLISHERS + 1):
                connection = Connection(urls, "publisher")
                publisher = Publisher(connection)
                # All but the first set nothing up, so that publishing begins as early as can be.
                await stack.enter_async_context(connection.running(publisher.open if number else publisher.set_up))
                await connection.is_up.wait()
                clients.append(Client(publisher))
                await stack.enter_async_context(clients[-1].running())
            await _all_confirmed(clients, since=time.monotonic())
            await asyncio.to_thread(cluster.wait_until_whole, [SHARED_REPLIES])
            assert cluster.membership(SHARED_REPLIES).leader == "second"

            await asyncio.to_thread(cluster.nodes["second"].kill)

            await _all_confirmed(clients, since=time.monotonic() + 1.0)
            assert cluster.running() == {"first", "third"}


async def _all_confirmed(clients: list[Client], since: float) -> None:
    async with asyncio.timeout(FAILOVER_SECONDS):
        while any(client.confirmed < since for client in clients):
            await asyncio.sleep(0.1)
