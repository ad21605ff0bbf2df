"""Names and arguments of every exchange and queue, as data; the same on RabbitMQ 3.10 and 4.x."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ORDERS_EXCHANGE = "orders"
INVENTORY_CHECK = "inventory.check"
"""Routing key and queue in one: named alike, publisher and consumer write the same `messaging.destination.name`."""
DEAD_LETTERS = "inventory.check.dead"

RETRY_DELAYS = (0.5, 2.0, 8.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Seconds that a failed check waits before its next attempt, unless set otherwise; one more failure makes it a dead letter."""

TOLD_REDELIVERIES = 2
"""Deliveries without a settlement before the asker of a check is told that it is not lost; few bystanders come so far."""
SUSPECT_SECONDS = 60.0
"""How long such a check may take: until its next delivery, its asker is told again."""
SUSPECT_REDELIVERIES = 4
"""Deliveries without a settlement, after workers or connections that died, before a check is handled alone."""
MAX_REDELIVERIES = 8
"""Deliveries without a settlement before a check becomes a dead letter; well below the limit of the broker."""
DELIVERY_LIMIT = 20
"""Redeliveries before the broker itself dead-letters, for a check that kills a worker before it can say anything."""

REPLY_QUEUE_PREFIX = "order-api.replies."
SHARED_REPLIES = "order-api.replies.shared"
"""Replies for whichever API takes them: to a queue that is gone with its instance, and to replayed dead letters."""
DIRECT_REPLY_PREFIX = "amq.rabbitmq.reply-to."
REPLY_QUEUE_PREFIXES = (REPLY_QUEUE_PREFIX, "amq.gen-", "amq_", DIRECT_REPLY_PREFIX)
"""How names of queues for replies begin: ours, those that a broker or a client library generates, and direct reply-to."""
REPLY_QUEUE_TEMPLATE = "order-api.replies.{instance}"


_RETRY_PREFIX = f"{INVENTORY_CHECK}.retry."


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue and, where it has one, the routing key that binds it to the orders exchange."""

    name: str
    routing_key: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _dead_letters_to(exchange: str, routing_key: str) -> dict[str, Any]:
    # At-least-once keeps a message in its queue until the next one has confirmed it; it needs the overflow policy.
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def retry_queue(delay: float) -> str:
    """Name the queue in which a check waits `delay` seconds; one queue a delay, so that none blocks another."""
    return f"{_RETRY_PREFIX}{int(delay * 1000)}ms"


QUEUES = (
    # Looking at the dead letters returns them to their queue, which counts: without a limit of their own they would
    # vanish after the default of 20 looks.
    Queue(DEAD_LETTERS, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}),
    Queue(SHARED_REPLIES, arguments=_dead_letters_to("", DEAD_LETTERS) | {"x-delivery-limit": DELIVERY_LIMIT}),
    Queue(
        INVENTORY_CHECK,
        routing_key=INVENTORY_CHECK,
        arguments=_dead_letters_to("", DEAD_LETTERS) | {"x-delivery-limit": DELIVERY_LIMIT},
    ),
)


def retry_queues(delays: Iterable[float]) -> tuple[Queue, ...]:
    """Give the queues in which failed checks wait."""
    return tuple(
        Queue(
            retry_queue(delay),
            arguments=_dead_letters_to(ORDERS_EXCHANGE, INVENTORY_CHECK) | {"x-message-ttl": int(delay * 1000)},
        )
        for delay in sorted(set(delays))
    )


def reply_queue(instance: str) -> str:
    """Name a reply queue for one connection of `instance`.

    The random end keeps a reconnect apart from the connection before it: an exclusive name stays locked until the broker
    has noticed that a half-open connection is gone.
    """
    return f"{REPLY_QUEUE_PREFIX}{instance}.{secrets.token_hex(3)}"


_OWN_NAMES = frozenset({*(queue.name for queue in QUEUES), f"{ORDERS_EXCHANGE}:{INVENTORY_CHECK}"})
FOREIGN_TEMPLATE = "{reply_to}"


def destination_template(name: str) -> str | None:
    """Give the low-cardinality form of a destination that is not one of ours by name; None for one that is.

    A stranger's `reply_to` may hold anything, and must make neither a span name nor a metric series of its own.
    """
    if name in _OWN_NAMES or name.startswith(_RETRY_PREFIX):
        return None
    return REPLY_QUEUE_TEMPLATE if name.startswith(REPLY_QUEUE_PREFIX) else FOREIGN_TEMPLATE


def asker(name: str) -> str | None:
    """Give the service that takes replies from a queue; None for a queue that holds no replies.

    Whose a foreign queue is nobody knows: all of them are one.
    """
    if name == SHARED_REPLIES or name.startswith(REPLY_QUEUE_PREFIX):
        return "order-api"
    return None if destination_template(name) is None else "foreign asker"
