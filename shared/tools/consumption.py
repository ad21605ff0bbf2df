"""How the checks are consumed right now: what the broker says of its queues, and the newest orders that left a trace."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import aio_pika
import httpx
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from yarl import URL

from shared.contract import topology
from shared.contract.errors import first_line
from shared.rabbit.broker import CONNECT_SECONDS

READ_SECONDS = 5.0
EXPORT_SECONDS = 2.0
"""How long a service may keep a span back before it exports it: what is younger may be incomplete."""
RATE_SECONDS = 10.0
"""The time over which the rate of new orders is taken."""
NEWEST = 1000
"""Traces that are looked at; group commits are among them."""


class WatchError(Exception):
    """Something that is watched is not there; the message is a clause that says what."""


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


@dataclass(frozen=True, slots=True)
class SeenOrder:
    """An order as its trace tells it; `placed_at` in seconds since the epoch, `ms` from the first span to the last."""

    order_id: str
    status: str
    ms: float
    placed_at: float
    trace_id: str


@dataclass(frozen=True, slots=True)
class OrdersState:
    """The newest orders, the very newest first."""

    per_second: float | None
    """New orders a second, up to `EXPORT_SECONDS` ago; None where the traces do not reach back far enough."""
    outcomes: Mapping[str, int]
    """Of how many of `newest` became what."""
    newest: list[SeenOrder]
    source: str


def read_queues(amqp_url: str, management_url: str | None = None) -> QueueState:
    """Ask the management interface, or where it does not answer the broker itself; raises WatchError.

    Without a `management_url` it is looked for where brokers usually have it: 10,000 ports above AMQP.
    """
    broker = urlsplit(amqp_url.split(",")[0])
    try:
        usual = f"http://{broker.hostname}:{(broker.port or 5672) + 10_000}"
        return _from_management(broker, management_url or usual)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return asyncio.run(_from_broker(amqp_url.split(",")[0]))


def _from_management(broker: SplitResult, management_url: str) -> QueueState:
    login = (unquote(broker.username or "guest"), unquote(broker.password or "guest"))
    virtual_host = quote(unquote(broker.path[1:]) or "/", safe="")
    url = f"{management_url.rstrip('/')}/api/queues/{virtual_host}"
    found = httpx.get(url, auth=login, timeout=READ_SECONDS, trust_env=False).raise_for_status().json()
    queues: dict[str, dict[str, Any]] = {queue["name"]: queue for queue in found}
    checks = queues.get(topology.INVENTORY_CHECK, {})
    return QueueState(
        ready=checks.get("messages_ready", 0),
        in_flight=checks.get("messages_unacknowledged", 0),
        consumers=checks.get("consumers", 0),
        consumed_per_second=checks.get("message_stats", {}).get("ack_details", {}).get("rate", 0.0),
        waiting_for_retry=sum(queues.get(name, {}).get("messages", 0) for name in _RETRY_QUEUES),
        dead_letters=queues.get(topology.DEAD_LETTERS, {}).get("messages", 0),
        source=management_url,
    )


async def _from_broker(amqp_url: str) -> QueueState:
    try:
        url = URL(amqp_url)
        address = f"{url.host}:{url.port or 5672}"
        connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS)
        async with connection:
            ready, consumers = await _count(connection, topology.INVENTORY_CHECK)
            retries = [await _count(connection, name) for name in _RETRY_QUEUES]
            dead, _ = await _count(connection, topology.DEAD_LETTERS)
    except ValueError as error:
        raise WatchError("AMQP_URL is not an address") from error
    except (AMQPError, OSError, TimeoutError) as error:
        raise WatchError(f"there is no RabbitMQ at {address} ({first_line(error)})") from error
    waiting = sum(count for count, _ in retries)
    return QueueState(ready, None, consumers, None, waiting, dead, source=address)


async def _count(connection: aio_pika.abc.AbstractConnection, queue: str) -> tuple[int, int]:
    """Count the messages that are ready in a queue, and its consumers; none of either where there is no such queue."""
    channel = await connection.channel()
    try:
        declared = (await channel.declare_queue(queue, passive=True)).declaration_result
    except ChannelNotFoundEntity:  # which also ends the channel
        return 0, 0
    await channel.close()
    return declared.message_count or 0, declared.consumer_count or 0


def read_orders(url: str, org: str, headers: Mapping[str, str]) -> OrdersState:
    """Ask the embedded receiver for the newest traces; raises WatchError."""
    try:
        found = httpx.get(
            f"{url.rstrip('/')}/api/{org}/traces",
            params={"limit": NEWEST},
            headers=dict(headers),
            timeout=READ_SECONDS,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WatchError(f"there is no receiver for traces at {url} ({first_line(error)})") from error
    if found.status_code == 401:
        raise WatchError(f"{url} refuses the user or password (OPENOBSERVE_USER, OPENOBSERVE_PASSWORD)")
    try:
        traces = found.raise_for_status().json()["traces"]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise WatchError(f"{url} is not the embedded receiver: it has no list of the newest orders") from error
    return orders_state(traces, time.time(), url)


def orders_state(traces: list[dict[str, Any]], now: float, source: str) -> OrdersState:
    """Make the state from the receiver's list of its newest traces, newest first."""
    newest = [
        SeenOrder(
            order_id=trace["order_id"],
            status=trace["order_status"] or (f"HTTP {trace['http_status']}" if trace["http_status"] else "unknown"),
            ms=trace["duration_ms"],
            placed_at=trace["start_ns"] / 1e9,
            trace_id=trace["trace_id"],
        )
        for trace in traces
        if trace["order_id"] is not None
    ]
    begin, end = now - EXPORT_SECONDS - RATE_SECONDS, now - EXPORT_SECONDS
    # A full list may have left older traces out: it must reach back beyond the time that the rate is taken over.
    reaches_back = len(traces) < NEWEST or traces[-1]["start_ns"] / 1e9 < begin
    recent = sum(begin <= order.placed_at < end for order in newest)
    return OrdersState(
        per_second=recent / RATE_SECONDS if reaches_back else None,
        outcomes=dict(Counter(order.status for order in newest).most_common()),
        newest=newest,
        source=source,
    )


_RETRY_QUEUES = tuple(map(topology.retry_queue, topology.RETRY_DELAYS))
