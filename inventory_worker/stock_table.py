"""The tables of stock and decisions, and the statements on them."""

import json
import time
from collections import Counter
from collections.abc import Mapping
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
)

from inventory_worker.stock import Ruling
from shared.storage.bulk import Bulk
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

_LOCKING = Bulk(
    "SELECT sku, available FROM stock WHERE sku IN (SELECT sku FROM {given}) ORDER BY sku {lock}",
    sku="text",
)
_FINDING = Bulk(
    "SELECT * FROM decisions WHERE order_id IN (SELECT order_id FROM {given})",
    order_id="text",
)
_TAKING = Bulk(
    "UPDATE stock SET available = available - given.quantity FROM {given} WHERE stock.sku = given.sku",
    sku="text",
    quantity="bigint",
)
_RECORDING = Bulk(
    # In one order: two workers that hold the same orders wait for each other here where nothing else keeps them apart.
    "INSERT INTO decisions ({columns}) SELECT {columns} FROM {given} ORDER BY order_id",
    order_id="text",
    status="text",
    reason="text",
    decided_at="double precision",
    traceparent="text",
    lines="text",
)
STATEMENTS = "; ".join(each.statement for each in (_LOCKING, _FINDING, _TAKING, _RECORDING))
"""What a transaction runs, as it is told in traces."""


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
    return {row.sku: row.available for row in _LOCKING.execute(connection, [{"sku": sku} for sku in sorted(skus)])}


def find_decisions(connection: Connection, order_ids: set[str]) -> dict[str, Row[Any]]:
    """Find the rows of decisions, each under its order id."""
    given = [{"order_id": order_id} for order_id in sorted(order_ids)]
    return {row.order_id: row for row in _FINDING.execute(connection, given)}


def take(connection: Connection, taken: Counter[str]) -> None:
    """Take quantities from the levels."""
    if taken:
        _TAKING.execute(connection, [{"sku": sku, "quantity": quantity} for sku, quantity in taken.items()])


def record(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Record new decisions."""
    if rows:
        _RECORDING.execute(connection, rows)


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
