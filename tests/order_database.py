"""An order database as the API has it: store and outbox over the same tables and the same group commit."""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from order_api import order_table
from order_api.order_store import SqlOrderStore
from order_api.order_writes import order_commits
from order_api.orders import Customer, Order
from order_api.outbox import Outbox
from shared.contract.messages import Item
from shared.storage.database import Database
from tests.system import new_id

TRACEPARENT = "00-11111111111111111111111111111111-2222222222222222-01"


@dataclass(frozen=True, slots=True)
class OrderDatabase:
    """One instance's way into the orders."""

    database: Database
    store: SqlOrderStore
    outbox: Outbox

    async def add(self, *orders: Order) -> None:
        for order in orders:
            await self.store.add(order)


@asynccontextmanager
async def opened(url: str, first_ask_delay: float = 60.0) -> AsyncIterator[OrderDatabase]:
    async with Database(url, order_table.MIGRATIONS).open() as database:
        commits = order_commits(database, first_ask_delay)
        async with commits.running():
            yield OrderDatabase(database, SqlOrderStore(database, commits), Outbox(database, commits))


def an_order(
    order_id: str | None = None, quantity: int = 1, traceparent: str | None = TRACEPARENT, age: float = 0.0
) -> Order:
    return Order(
        order_id=order_id or new_id(),
        items=(Item(sku="gizmo", quantity=2), Item(sku="widget", quantity=quantity)),
        customer=Customer("c-1", "someone@example.com"),
        created_at=time.time() - age,
        traceparent=traceparent,
        placement_id=uuid.uuid4().hex,
    )
