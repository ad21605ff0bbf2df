"""How often checks were published: a queue beside that of the workers, which gets a copy of each."""

from collections import Counter
from collections.abc import Collection

import aio_pika

from shared.contract.topology import INVENTORY_CHECK, ORDERS_EXCHANGE
from tests.torture.accounts import Check

QUEUE = "torture.copies"
MESSAGES_AN_ORDER = 1.05
"""Checks published for each stored order, retries apart, at most."""
RETRY_HEADERS = ("x-failures", "x-death")
"""A check that comes back from a retry queue passes the exchange once more, and carries one of these."""


async def begin_to_copy(amqp_url: str) -> None:
    """Bind the queue; it survives a crash of the broker, as what is in it does."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(QUEUE, durable=True)
        await queue.bind(ORDERS_EXCHANGE, INVENTORY_CHECK)


async def check_copies(amqp_url: str, stored: Collection[str]) -> Check:
    """Take every copy, and tell whether these orders were asked for too often."""
    copies: Counter[str | None] = Counter()
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(QUEUE, passive=True)
        for _ in range(queue.declaration_result.message_count or 0):
            message = await queue.get(no_ack=True, fail=False)
            if message is None or any(name in message.headers for name in RETRY_HEADERS):
                continue
            if message.correlation_id in stored:
                copies[message.correlation_id] += 1
    an_order = copies.total() / max(1, len(stored))
    name = f"at most {MESSAGES_AN_ORDER} checks were published for an order; it were {an_order:.3f}"
    most = [f"{order_id}: {count}" for order_id, count in copies.most_common(5) if count > 1]
    return Check(name, copies.total(), most if an_order > MESSAGES_AN_ORDER else [])
