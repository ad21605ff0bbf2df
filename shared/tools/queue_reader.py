"""What the broker says of its queues right now: how many checks wait, are at the workers, wait for a retry, are dead."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.queue_reading import usual_management_url
from shared.tools import broker_nodes
from shared.tools.broker_nodes import NoNode
from shared.tools.proxies import trusts_environment

READ_SECONDS = 5.0

_RETRY_QUEUE = re.compile(re.escape(topology.retry_queue(1)).replace("1000", r"\d+"))
_USUAL_RETRY_QUEUES = tuple(map(topology.retry_queue, topology.RETRY_DELAYS))
"""Whatever delays a worker is set to, AMQP tells nothing of queues that are not asked for by name."""


class QueuesUnreadable(Exception):
    """Nobody says how the queues are; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queues, in messages; `None` for what only the management interface knows."""

    ready: int
    in_flight: int | None
    """Delivered to a worker and not settled yet."""
    consumers: int
    consumed_per_second: float | None
    waiting_for_retry: int
    dead_letters: int
    source: str


def read_queues(amqp_url: str, management_url: str | None = None) -> QueueState:
    """Ask the management interface, or where it does not tell the broker itself, node by node; raises QueuesUnreadable.

    Without a `management_url` it is looked for where brokers usually have it, 10,000 ports above AMQP, but on this machine
    alone: the login would go to whoever listens there, and in plain text.
    """
    try:
        nodes = broker_nodes.nodes(amqp_url)
        for node in nodes:
            url = management_url or usual_management_url(node)
            if url is None:
                continue
            try:
                return _from_management(node, url)
            except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError, LookupError, TypeError):
                continue  # not there, not ours, or with its statistics switched off
        return asyncio.run(_from_broker(amqp_url))
    except NoNode as error:
        raise QueuesUnreadable(str(error)) from error


def _from_management(node: URL, management_url: str) -> QueueState:
    login = (node.user or "guest", node.password or "guest")
    virtual_host = quote(node.path.removeprefix("/") or "/", safe="")
    url = f"{management_url.rstrip('/')}/api/queues/{virtual_host}"
    trusts = trusts_environment(url)
    found = httpx.get(url, auth=login, timeout=READ_SECONDS, trust_env=trusts).raise_for_status().json()
    queues: Mapping[str, dict[str, Any]] = {queue["name"]: queue for queue in found}
    nothing = {"messages": 0, "messages_ready": 0, "messages_unacknowledged": 0, "consumers": 0}
    # A queue that is not there is empty; one that is, and says nothing of its messages, is not.
    checks = queues.get(topology.INVENTORY_CHECK, nothing)
    return QueueState(
        ready=checks["messages_ready"],
        in_flight=checks["messages_unacknowledged"],
        consumers=checks["consumers"],
        consumed_per_second=_rate(checks.get("message_stats")),
        waiting_for_retry=sum(queue["messages"] for name, queue in queues.items() if _RETRY_QUEUE.fullmatch(name)),
        dead_letters=queues.get(topology.DEAD_LETTERS, nothing)["messages"],
        source=management_url,
    )


def _rate(stats: Mapping[str, Any] | None) -> float | None:
    """Read the rate of acknowledgements: 0 where nothing was ever acknowledged, None where rates are switched off."""
    if not stats or not stats.get("ack"):
        return 0.0
    rate: float | None = stats.get("ack_details", {}).get("rate")
    return rate


async def _from_broker(amqp_url: str) -> QueueState:
    connection, source = await broker_nodes.connect(amqp_url)
    try:
        with losses_as_errors():
            async with connection:
                ready, consumers = await _count(connection, topology.INVENTORY_CHECK)
                retries = [await _count(connection, name) for name in _USUAL_RETRY_QUEUES]
                dead, _ = await _count(connection, topology.DEAD_LETTERS)
    except BrokerUnavailable as error:
        raise QueuesUnreadable(f"{source} says nothing of its queues ({error})") from error
    waiting = sum(count for count, _ in retries)
    return QueueState(ready, None, consumers, None, waiting, dead, source)


async def _count(connection: AbstractConnection, queue: str) -> tuple[int, int]:
    """Count the messages that are ready in a queue, and its consumers; none of either where there is no such queue."""
    channel = await connection.channel()
    try:
        declared = (await channel.declare_queue(queue, passive=True)).declaration_result
    except ChannelNotFoundEntity:  # which also ends the channel
        return 0, 0
    await channel.close()
    return declared.message_count or 0, declared.consumer_count or 0
