"""Reads the queues from the broker: by its management API, or where there is none by passive declares, which tell less.

Nothing is taken out to be looked at: a `get` would count as a delivery, and brings a message nearer to its limit.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from aio_pika.exceptions import ChannelClosed
from yarl import URL

from shared.contract import topology
from shared.rabbit.connection import Session
from shared.rabbit.losses import losses_as_errors
from shared.telemetry import is_loopback
from shared.tracing.queues import QueueReading

READ_SECONDS = 5.0
_COLUMNS = "name,messages_ready,messages_unacknowledged,consumers,head_message_timestamp,message_stats"
_COUNTS = ("publish", "deliver", "ack", "redeliver")


def usual_management_url(node: URL) -> str | None:
    """Give where brokers usually have their management interface, 10,000 ports above AMQP; on this machine alone.

    Elsewhere the login would go, in plain text, to whoever listens there.
    """
    is_near = node.scheme == "amqp" and is_loopback(node.host or "")
    return f"http://{node.host}:{(node.port or 5672) + 10_000}" if is_near else None


async def from_management(http: httpx.AsyncClient, node: URL, url: str) -> list[QueueReading]:
    """Ask the management API for the queues of this system in the virtual host of a node's URL.

    Raises httpx.HTTPError, httpx.InvalidURL, or ValueError where something else answers, or statistics are switched off.
    """
    virtual_host = quote(node.path.removeprefix("/") or "/", safe="")
    answer = await http.get(
        f"{url.rstrip('/')}/api/queues/{virtual_host}",
        params={"columns": _COLUMNS},
        auth=(node.user or "guest", node.password or "guest"),
    )
    queues = answer.raise_for_status().json()
    if not isinstance(queues, list):
        raise ValueError("no list of queues")  # noqa: TRY004 - it is a foreign answer that is wrong, no argument
    # Right after its declaration a queue has no numbers yet, and what was not measured is not 0.
    counted = [queue for queue in queues if _is_ours(queue["name"]) and "messages_ready" in queue]
    if queues and not counted:
        raise ValueError("it tells no numbers of queues")
    now = time.time()
    return _together(_reading(queue, now) for queue in counted)


def _reading(queue: Mapping[str, Any], now: float) -> QueueReading:
    head, counted = queue.get("head_message_timestamp"), queue.get("message_stats") or {}
    return QueueReading(
        name=queue["name"],
        ready=queue.get("messages_ready", 0),
        consumers=queue.get("consumers", 0),
        unacked=queue.get("messages_unacknowledged", 0),
        oldest_seconds=max(0.0, now - head) if isinstance(head, int) and head > 0 else None,
        # What has not happened is not told: it is 0, so that the first time shows.
        counts={name: counted.get(name, 0) for name in _COUNTS},
    )


async def from_broker(session: Session, names: Iterable[str]) -> list[QueueReading]:
    """Ask for queues by name over AMQP; those that are not there are left out. Raises BrokerUnavailable."""
    found, channel = [], None
    for name in names:
        if channel is None:
            channel = await session.open_channel(publisher_confirms=False)
            # A queue that is not there ends the channel, which is no loss.
            session.let_go(channel)
        try:
            with losses_as_errors():
                queue = await channel.declare_queue(name, passive=True)
        except Exception as error:
            if not isinstance(error.__cause__, ChannelClosed):
                raise
            channel = None
        else:
            counted = queue.declaration_result
            found.append(QueueReading(name, counted.message_count or 0, counted.consumer_count or 0))
    if channel is not None:
        with losses_as_errors():
            await channel.close()
    return _together(found)


def _is_ours(name: str) -> bool:
    """Tell whether a queue is one of this system: a stranger's in the same virtual host must not make series."""
    return topology.destination_template(name) != topology.FOREIGN_TEMPLATE


def _together(readings: Iterable[QueueReading]) -> list[QueueReading]:
    """Give one reading for each low-cardinality name: the reply queues of all instances are one."""
    by_name: dict[str, list[QueueReading]] = defaultdict(list)
    for reading in readings:
        by_name[topology.destination_template(reading.name) or reading.name].append(reading)
    return [_sum(name, each) for name, each in by_name.items()]


def _sum(name: str, each: list[QueueReading]) -> QueueReading:
    unacked = [reading.unacked for reading in each if reading.unacked is not None]
    ages = [reading.oldest_seconds for reading in each if reading.oldest_seconds is not None]
    counts: dict[str, int] = {}
    for reading in each:
        for operation, count in reading.counts.items():
            counts[operation] = counts.get(operation, 0) + count
    return QueueReading(
        name,
        sum(reading.ready for reading in each),
        sum(reading.consumers for reading in each),
        sum(unacked) if unacked else None,
        max(ages, default=None),
        counts,
    )
