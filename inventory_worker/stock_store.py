"""Stock levels and decisions in a database: the decision is recorded in the transaction that takes the stock."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)

from inventory_worker.stock import Verdict, decide, quantities
from shared.contract.messages import CheckInventory, OrderStatus
from shared.storage.database import Database, GroupCommit, insert_for

metadata = MetaData()
stock = Table(
    "stock",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("available", BigInteger, CheckConstraint("available >= 0"), nullable=False),
)
decisions = Table(
    "decisions",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("decided_at", Double, nullable=False),
    Column("traceparent", Text),
)


def put_initial_stock(connection: Connection, initial: Mapping[str, int]) -> None:
    """Give SKUs that were never seen before their first level."""
    rows = [{"sku": sku, "available": available} for sku, available in sorted(initial.items())]
    if rows:
        connection.execute(insert_for(connection.dialect.name, stock).on_conflict_do_nothing(), rows)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A check to decide on, and the span that asks."""

    check: CheckInventory
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The one decision on an order, and the process span that took it."""

    verdict: Verdict
    traceparent: str | None
    is_new: bool


class SqlStockStore:
    """Keeps stock and decisions in SQLite or PostgreSQL; concurrent reservations share a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = GroupCommit[Reservation, Decision](database, "commit reservations", self._apply)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Commit while the context lasts."""
        async with self._commits.running():
            yield self

    async def reserve(self, reservation: Reservation) -> Decision:
        """Take the stock for an order once; a repeat gets the decision that was recorded, whatever it asks for now."""
        return await self._commits.submit(reservation)

    async def find_verdict(self, order_id: str) -> Verdict | None:
        """Find what was decided on an order."""
        found = await self._database.read(lambda connection: _find_decisions(connection, {order_id}))
        return found[order_id].verdict if order_id in found else None

    async def levels(self) -> dict[str, int]:
        """Read every stock level."""
        every = select(stock.c.sku, stock.c.available).order_by(stock.c.sku)
        return await self._database.read(
            lambda connection: {row.sku: row.available for row in connection.execute(every)}
        )

    async def set_level(self, sku: str, available: int) -> None:
        """Set a stock level, of a SKU known or new."""

        def set_it(connection: Connection) -> None:
            setting = insert_for(connection.dialect.name, stock).values(sku=sku, available=available)
            connection.execute(
                setting.on_conflict_do_update(index_elements=[stock.c.sku], set_={"available": available})
            )

        await self._database.write(set_it)

    def _apply(self, connection: Connection, batch: Sequence[Reservation]) -> Sequence[Decision]:
        # The rows of the stock are locked before the decisions are read: of two workers that hold the same order, the
        # second then sees the decision of the first. In one order, so that no two lock each other out.
        available = _lock_levels(connection, {item.sku for each in batch for item in each.check.items})
        decided = _find_decisions(connection, {each.check.order_id for each in batch})
        taken: Counter[str] = Counter()
        answers: list[Decision] = []
        recorded: list[dict[str, Any]] = []
        for each in batch:
            order_id = each.check.order_id
            if order_id not in decided:
                verdict = decide(each.check.items, available)
                if verdict.status is OrderStatus.SUCCESS:
                    wanted = quantities(each.check.items)
                    taken += wanted
                    available = {sku: level - wanted[sku] for sku, level in available.items()}
                decided[order_id] = Decision(verdict, each.traceparent, is_new=False)
                recorded.append(_row(order_id, verdict, each.traceparent))
                answers.append(Decision(verdict, each.traceparent, is_new=True))
            else:
                answers.append(decided[order_id])
        _write(connection, taken, recorded)
        return answers


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


def _lock_levels(connection: Connection, skus: set[str]) -> dict[str, int]:
    return {row.sku: row.available for row in connection.execute(_LOCKING, {"skus": sorted(skus)})}


def _find_decisions(connection: Connection, order_ids: set[str]) -> dict[str, Decision]:
    found = connection.execute(_FINDING, {"order_ids": sorted(order_ids)})
    return {
        row.order_id: Decision(Verdict(OrderStatus(row.status), row.reason), row.traceparent, is_new=False)
        for row in found
    }


def _write(connection: Connection, taken: Counter[str], recorded: list[dict[str, Any]]) -> None:
    if taken:
        connection.execute(_TAKING, [{"of_sku": sku, "quantity": quantity} for sku, quantity in sorted(taken.items())])
    if recorded:
        connection.execute(_RECORDING, recorded)


def _row(order_id: str, verdict: Verdict, traceparent: str | None) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "status": verdict.status.value,
        "reason": verdict.reason,
        "decided_at": time.time(),
        "traceparent": traceparent,
    }
