"""The private RabbitMQ node: two at once, crash and restart, and nothing left behind, whoever ends it."""

import asyncio
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aio_pika
import httpx
import pytest
from pamqp.common import FieldTable

from shared.tools.local.rabbitmq import Way, obtain_broker
from shared.tools.local.rabbitmq_node import PrivateNode
from shared.tools.local.rabbitmq_server import BrokerError
from tests.broker import wait_until_saved
from tests.waiting import eventually

QUORUM: FieldTable = {"x-queue-type": "quorum"}

STARTS_A_NODE_AND_IS_KILLED = """
import os, signal
from shared.tools.local.rabbitmq_node import PrivateNode

node = PrivateNode(management=False)
node.start()
print(node.directory, *node.pids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, so that a test sees what is left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


async def test_an_installed_server_is_obtained_as_a_private_node_and_what_it_confirmed_survives_a_crash() -> None:
    said: list[str] = []

    with obtain_broker(say=said.append) as broker:
        assert broker.way is Way.INSTALLED
        assert broker.node
        assert said == [f"starting a private RabbitMQ {broker.node.server.version} ..."]
        published = await _publish_for(broker.amqp_url, seconds=1.0)
        wait_until_saved(broker.node, ["confirmed"])

        broker.node.kill()
        broker.node.restart()

        assert await _consume(broker.amqp_url, len(published)) == published


def test_two_nodes_that_start_at_once_share_nothing_and_leave_no_process_and_no_file(temporary: Path) -> None:
    first, second = nodes = PrivateNode(), PrivateNode()

    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(PrivateNode.start, nodes))
        pids = [*first.pids, *second.pids]

        assert len(pids) == 4, "of each the Erlang machine and epmd"
        assert not set(vars(first.ports).values()) & set(vars(second.ports).values())
        asyncio.run(_publish_for(first.amqp_url, seconds=0))
        assert _queues(first) == ["confirmed"]
        assert _queues(second) == []
    finally:
        first.stop()
        second.stop(grace=0)

    assert not [pid for pid in pids if _runs(pid)]
    assert not list(temporary.iterdir())


def test_a_node_goes_when_the_process_that_started_it_is_killed(temporary: Path) -> None:
    script = [sys.executable, "-c", STARTS_A_NODE_AND_IS_KILLED]

    killed = subprocess.run(script, capture_output=True, text=True, timeout=60)

    directory, *pids = killed.stdout.split()
    assert directory.startswith(str(temporary.resolve()))
    assert len(pids) == 2
    eventually(lambda: not any(_runs(int(pid)) for pid in pids), within=20, what="the end of its processes")
    eventually(lambda: not list(temporary.iterdir()), within=20, what="the end of its files")


def test_a_node_that_cannot_start_says_why_at_once(temporary: Path) -> None:
    node = PrivateNode(config={"no.such.setting": "1"})
    began = time.monotonic()

    with pytest.raises(BrokerError, match=r"(?s)RabbitMQ .* ended with status .* while it started.*no\.such\.setting"):
        node.start(timeout=100)

    assert time.monotonic() - began < 50
    assert node.pids == ()
    assert not list(temporary.iterdir())


def test_a_node_that_is_not_ready_in_time_is_ended(temporary: Path) -> None:
    node = PrivateNode()

    with pytest.raises(BrokerError, match="did not get ready in time"):
        node.start(timeout=0.5)

    assert node.pids == ()
    assert not list(temporary.iterdir())


async def _publish_for(url: str, seconds: float) -> list[bytes]:
    """Publish persistent, confirmed messages for so long, and return them."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.declare_queue("confirmed", durable=True, arguments=QUORUM)
        deadline = time.monotonic() + seconds
        published: list[bytes] = []
        while not published or time.monotonic() < deadline:
            body = str(len(published)).encode()
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "confirmed", timeout=10)
            published.append(body)
        return published


async def _consume(url: str, count: int) -> list[bytes]:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue("confirmed", durable=True, arguments=QUORUM)
        async with asyncio.timeout(20), queue.iterator() as deliveries:
            consumed: list[bytes] = []
            async for delivery in deliveries:
                await delivery.ack()
                consumed.append(delivery.body)
                if len(consumed) == count:
                    break
            return consumed


def _queues(node: PrivateNode) -> list[str]:
    answer = httpx.get(f"{node.management_url}/api/queues", auth=("guest", "guest"))
    return [queue["name"] for queue in answer.raise_for_status().json()]


def _runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
