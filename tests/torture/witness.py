"""A witness past the services: the rows of both databases, and what the queues hold, read directly."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import aio_pika
import asyncpg

from shared.contract import topology
from shared.contract.envelope import DEATH_REASON_HEADER
from shared.rabbit.decoding import tolerate_undecodable
from tests.torture.plant import INVENTORY_WORKER, ORDER_API, Plant

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Books:
    """Every row that the services have written; orders and decisions by order id."""

    orders: Mapping[str, Row]
    decisions: Mapping[str, Row]
    levels: Mapping[str, int]

    def without(self, strangers: Collection[str]) -> Self:
        """Leave the decisions on some orders out."""
        kept = {order_id: row for order_id, row in self.decisions.items() if order_id not in strangers}
        return replace(self, decisions=kept)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: the order it is about, None for one that nobody can decode, and why it is one."""

    order_id: str | None
    why: str


async def read_books(plant: Plant) -> Books:
    """Read both databases."""
    orders, inventory = plant.databases[ORDER_API], plant.databases[INVENTORY_WORKER]
    return Books(
        {row["order_id"]: row for row in await _query(orders, "SELECT * FROM orders")},
        {row["order_id"]: row for row in await _query(inventory, "SELECT * FROM decisions")},
        {row["sku"]: row["available"] for row in await _query(inventory, "SELECT * FROM stock")},
    )


async def count_pending(plant: Plant) -> int:
    """Count the orders without an outcome."""
    found = await _query(plant.databases[ORDER_API], "SELECT count(*) AS n FROM orders WHERE status = 'pending'")
    return int(found[0]["n"])


def items_of(row: Row) -> dict[str, int]:
    """Give what an order row asks for."""
    return dict(json.loads(row["lines"]))


async def _query(url: str, statement: str) -> list[Row]:
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]
        finally:
            connection.close()
    postgres = await asyncpg.connect(url)
    try:
        return [dict(row) for row in await postgres.fetch(statement)]
    finally:
        await postgres.close()


async def queued(plant: Plant) -> dict[str, int]:
    """Count the messages that wait in each durable queue; those with a consumer are not counted."""
    connection = await aio_pika.connect(plant.broker.amqp_url)
    async with connection:
        channel = await connection.channel()
        counts = {}
        for queue in topology.QUEUES:
            declared = await channel.declare_queue(queue.name, passive=True)
            counts[queue.name] = declared.declaration_result.message_count or 0
        return counts


async def dead_letters(plant: Plant) -> list[DeadLetter]:
    """Take every dead letter."""
    tolerate_undecodable()
    found = []
    connection = await aio_pika.connect(plant.broker.amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(topology.DEAD_LETTERS)
        while message := await queue.get(fail=False):
            why = message.headers.get(DEATH_REASON_HEADER) or message.headers.get("x-death")
            found.append(DeadLetter(message.correlation_id, f"{message.type}: {why!r}"))
    return found
