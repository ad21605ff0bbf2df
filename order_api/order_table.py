"""The table of orders, and how an order is a row in it; what is pending in it is the outbox."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Double,
    MetaData,
    Row,
    Table,
    Text,
    literal_column,
)

from order_api.orders import Customer, Order
from shared.contract.messages import Item, OrderStatus
from shared.storage.bulk import Bulk
from shared.storage.migrations import Migrations

MIGRATIONS = Migrations(Path(__file__).with_name("migrations"))

orders = Table(
    "orders",
    MetaData(),
    Column("order_id", Text, primary_key=True),
    Column("lines", Text, nullable=False),
    Column("customer", Text),
    Column("created_at", Double, nullable=False),
    Column("traceparent", Text),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("decided_at", Double),
    Column("ask_at", Double, nullable=False),
    Column("ask_delay", Double, nullable=False),
    Column("placement_id", Text),
    Column("published_at", Double),
)
IS_PENDING = orders.c.status == literal_column(f"'{OrderStatus.PENDING.value}'")
"""Written out, for a partial index is of no use to a statement whose parameter may be anything."""

ORDER_COLUMNS: tuple[Column[Any], ...] = (
    orders.c.order_id,
    orders.c.lines,
    orders.c.customer,
    orders.c.created_at,
    orders.c.traceparent,
    orders.c.placement_id,
    orders.c.status,
    orders.c.reason,
    orders.c.decided_at,
)

_FINDING = Bulk("SELECT * FROM orders WHERE order_id IN (SELECT order_id FROM {given})", order_id="text")
_LOCKING = Bulk(
    "SELECT order_id FROM orders WHERE order_id IN (SELECT order_id FROM {given}) ORDER BY order_id {lock}",
    order_id="text",
)


def find(connection: Connection, order_ids: Collection[str]) -> dict[str, Order]:
    """Find orders, each under its id."""
    if not order_ids:
        return {}
    return {row.order_id: order_of(row) for row in _FINDING.execute(connection, ids(order_ids))}


def lock(connection: Connection, order_ids: Collection[str]) -> None:
    """Keep every other transaction from changing orders; in one order, so that no two lock each other out.

    SQLite has one writer, and nothing to lock.
    """
    if order_ids and connection.dialect.name != "sqlite":
        _LOCKING.execute(connection, ids(order_ids))


def ids(order_ids: Collection[str]) -> list[dict[str, str]]:
    """Write order ids as rows, in one order."""
    return [{"order_id": order_id} for order_id in sorted(order_ids)]


def order_of(row: Row[Any]) -> Order:
    """Read an order from a row of ORDER_COLUMNS."""
    return Order(
        order_id=row.order_id,
        # What was stored was validated: building the items without a second validation keeps reads cheap.
        items=tuple(Item.model_construct(sku=sku, quantity=quantity) for sku, quantity in json.loads(row.lines)),
        customer=None if row.customer is None else Customer(**json.loads(row.customer)),
        created_at=row.created_at,
        traceparent=row.traceparent,
        # An instance of a version that knew no placements wrote none.
        placement_id=row.placement_id or "",
        status=OrderStatus(row.status),
        reason=row.reason,
        decided_at=row.decided_at,
    )


NEW = {
    "order_id": "text",
    "lines": "text",
    "customer": "text",
    "created_at": "double precision",
    "traceparent": "text",
    "placement_id": "text",
    "status": "text",
    "ask_at": "double precision",
    "ask_delay": "double precision",
}
"""The columns of a new order, with their types in PostgreSQL."""


def row_of(order: Order, first_ask_delay: float) -> dict[str, Any]:
    """Write a new order as a row that is due to be asked for again after `first_ask_delay` seconds."""
    return {
        "order_id": order.order_id,
        "lines": json.dumps([[item.sku, item.quantity] for item in order.items]),
        "customer": None
        if order.customer is None
        else json.dumps({"id": order.customer.id, "email": order.customer.email}),
        "created_at": order.created_at,
        "traceparent": order.traceparent,
        "placement_id": order.placement_id,
        "status": order.status.value,
        "ask_at": order.created_at + first_ask_delay,
        "ask_delay": first_ask_delay,
    }
