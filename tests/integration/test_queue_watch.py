"""The broker's queues as one instance reads them for all: by its management API, or by passive declares."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aio_pika

from shared.contract import topology
from shared.rabbit.connection import Connection, Session
from shared.rabbit.declarations import declare
from shared.rabbit.queue_watch import QueueWatch
from shared.tracing.queues import QueueReading
from tests.system import VirtualHost

NOWHERE = "http://127.0.0.1:1"


@asynccontextmanager
async def _watching(host: VirtualHost, management_url: str, name: str = "one") -> AsyncIterator[QueueWatch]:
    async def set_up(session: Session) -> None:
        await declare(session, topology.QUEUES)

    connection = Connection([host.amqp_url], name)
    watch = QueueWatch(connection, [host.amqp_url], management_url)
    async with connection.running(set_up):
        await connection.is_up.wait()
        async with watch.running():
            yield watch


async def _publish(host: VirtualHost, queue: str, count: int) -> None:
    async with await aio_pika.connect(host.amqp_url) as connection, connection.channel() as channel:
        for _ in range(count):
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)


async def _eventually(probe: Callable[[], object], what: str, within: float = 60.0) -> None:
    """Wait while the loop runs, which does what is waited for."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def _by_name(watch: QueueWatch) -> dict[str, QueueReading]:
    return {reading.name: reading for reading in watch.readings}


def _management_of(host: VirtualHost) -> str:
    return str(host.api.base_url).removesuffix("/api/")


async def test_the_queues_are_read_from_the_management_api(virtual_host: VirtualHost) -> None:
    async with _watching(virtual_host, _management_of(virtual_host)) as watch:
        await _publish(virtual_host, topology.DEAD_LETTERS, 3)
        await _publish(virtual_host, topology.INVENTORY_CHECK, 2)

        def is_counted() -> bool:
            # A queue of which the broker has no numbers yet is left out.
            letters, checks = map(_by_name(watch).get, (topology.DEAD_LETTERS, topology.INVENTORY_CHECK))
            return bool(letters and letters.ready == 3 and checks and checks.counts.get("publish") == 2)

        await _eventually(is_counted, "the messages in the readings")
        reading = _by_name(watch)[topology.INVENTORY_CHECK]

    assert (reading.ready, reading.unacked, reading.consumers) == (2, 0, 0)
    assert reading.oldest_seconds is None, "a quorum queue does not tell, and nobody peeks"
    assert reading.counts == {"publish": 2, "deliver": 0, "ack": 0, "redeliver": 0}


async def test_without_a_management_api_depth_and_consumers_are_known_all_the_same(virtual_host: VirtualHost) -> None:
    async with _watching(virtual_host, NOWHERE) as watch:
        await _publish(virtual_host, topology.DEAD_LETTERS, 3)
        await _eventually(lambda: watch.readings and _by_name(watch)[topology.DEAD_LETTERS].ready == 3, "the letters")

        assert {(reading.unacked, reading.oldest_seconds) for reading in watch.readings} == {(None, None)}
        assert set(_by_name(watch)) == {queue.name for queue in topology.QUEUES}


async def test_one_of_several_watches_and_another_takes_over(virtual_host: VirtualHost) -> None:
    url = _management_of(virtual_host)
    async with _watching(virtual_host, url, "second") as second:
        async with _watching(virtual_host, url, "first") as first:
            await _eventually(lambda: first.readings or second.readings, "the first readings")
            watching = [watch for watch in (first, second) if watch.readings]
            assert len(watching) == 1
        await _eventually(lambda: second.readings, "the readings of who is left")


async def test_the_queues_of_strangers_make_no_series(virtual_host: VirtualHost) -> None:
    async with await aio_pika.connect(virtual_host.amqp_url) as connection, connection.channel() as channel:
        await channel.declare_queue("somebody-elses", durable=True)
        await channel.declare_queue("order-api.replies.a.1", exclusive=True)
        await channel.declare_queue("order-api.replies.b.2", exclusive=True)
        async with _watching(virtual_host, _management_of(virtual_host)) as watch:
            await _eventually(lambda: topology.REPLY_QUEUE_TEMPLATE in _by_name(watch), "the reply queues, together")

            names = [reading.name for reading in watch.readings]
            assert len(set(names)) == len(names)
            assert not {"somebody-elses", "order-api.replies.a.1", "orders.queue-watch"} & set(names)
