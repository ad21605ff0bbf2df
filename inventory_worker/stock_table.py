"""The tables of stock and decisions, and the statements on them."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    MetaData,
    Row,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)

from inventory_worker.stock import Ruling
from shared.storage.database import insert_for
from shared.storage.migrations import Migrations

MIGRATIONS = Migrations(Path(__file__).with_name("migrations"))

_metadata = MetaData()
stock = Table(
    "stock",
    _metadata,
    Column("sku", Text, primary_key=True),
    Column("available", BigInteger, CheckConstraint("available >= 0"), nullable=False),
)
decisions = Table(
    "decisions",
    _metadata,
    Column("order_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("decided_at", Double, nullable=False),
    Column("traceparent", Text),
    Column("lines", Text),
)

# Statements are built once: building one, and the key under which its SQL is kept, takes longer than running it.
_LOCKING = (
    select(stock.c.sku, stock.c.available)
    .where(stock.c.sku.in_(bindparam("skus", expanding=True)))
    .order_by(stock.c.sku)
    .with_for_update()
)
_FINDING = select(decisions).where(decisions.c.order_id.in_(bindparam("order_ids", expanding=True)))
_TAKING = (
    update(stock).where(stock.c.sku == bindparam("of_sku")).values(available=stock.c.available - bindparam("quantity"))
)
_RECORDING = insert(decisions)


def put_initial_stock(connection: Connection, initial: Mapping[str, int]) -> None:
    """Give SKUs that were never seen before their first level."""
    rows = [{"sku": sku, "available": available} for sku, available in sorted(initial.items())]
    if rows:
        connection.execute(insert_for(connection.dialect.name, stock).on_conflict_do_nothing(), rows)


def put_level(connection: Connection, sku: str, available: int) -> None:
    """Set the level of a SKU known or new."""
    setting = insert_for(connection.dialect.name, stock).values(sku=sku, available=available)
    connection.execute(setting.on_conflict_do_update(index_elements=[stock.c.sku], set_={"available": available}))


def lock_levels(connection: Connection, skus: set[str]) -> dict[str, int]:
    """Find levels, and keep every other transaction from changing them; in one order, so that no two lock each other out."""
    return {row.sku: row.available for row in connection.execute(_LOCKING, {"skus": sorted(skus)})}


def find_decisions(connection: Connection, order_ids: set[str]) -> dict[str, Row[Any]]:
    """Find the rows of decisions, each under its order id."""
    return {row.order_id: row for row in connection.execute(_FINDING, {"order_ids": sorted(order_ids)})}


def take(connection: Connection, taken: Counter[str]) -> None:
    """Take quantities from the levels."""
    if taken:
        connection.execute(_TAKING, [{"of_sku": sku, "quantity": quantity} for sku, quantity in sorted(taken.items())])


def record(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Record new decisions."""
    if rows:
        # In one order: two workers that hold the same orders wait for each other here where nothing else keeps them apart.
        connection.execute(_RECORDING, sorted(rows, key=itemgetter("order_id")))


def decision_row(order_id: str, ruling: Ruling, wanted: Counter[str], traceparent: str | None) -> dict[str, Any]:
    """Write a decision as a row, with what it was taken on."""
    return {
        "order_id": order_id,
        "status": ruling.status.value,
        "reason": ruling.reason,
        "decided_at": time.time(),
        "traceparent": traceparent,
        "lines": json.dumps(sorted(wanted.items())),
    }
