"""Stock levels and decisions in a database: the decision is recorded in the transaction that takes the stock."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from sqlalchemy import Connection, Row, select

from inventory_worker.stock import Ruling, decide, quantities
from inventory_worker.stock_table import (
    STATEMENTS,
    decision_row,
    find_decisions,
    lock_levels,
    put_level,
    record,
    stock,
    take,
)
from shared.contract.messages import CheckInventory, OrderStatus
from shared.storage.database import Database
from shared.storage.group_commit import GroupCommit

CONFLICT = Ruling(OrderStatus.ERROR, "conflict")
"""What is said to a check for an order id that has been decided on for other items."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A check to decide on, and the span that asks."""

    check: CheckInventory
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was decided on a check, and the process span that took the one decision on its order."""

    ruling: Ruling
    traceparent: str | None
    is_new: bool


class SqlStockStore:
    """Keeps stock and decisions in SQLite or PostgreSQL; concurrent reservations share a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = GroupCommit[Reservation, Reserved](database, "commit reservations", _apply, STATEMENTS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Commit while the context lasts."""
        async with self._commits.running():
            yield self

    async def reserve(self, reservation: Reservation) -> Reserved:
        """Take the stock for an order once; a repeat gets the decision that was recorded, or CONFLICT for other items."""
        return await self._commits.submit(reservation)

    async def find_ruling(self, order_id: str) -> Ruling | None:
        """Find what was decided on an order."""
        found = await self._database.read(lambda connection: find_decisions(connection, {order_id}))
        return _ruling_of(found[order_id]) if order_id in found else None

    async def levels(self) -> dict[str, int]:
        """Read every stock level."""
        every = select(stock.c.sku, stock.c.available).order_by(stock.c.sku)
        return await self._database.read(
            lambda connection: {row.sku: row.available for row in connection.execute(every)}
        )

    async def set_level(self, sku: str, available: int) -> None:
        """Set a stock level, of a SKU known or new."""
        await self._database.write(partial(put_level, sku=sku, available=available))


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is known of an order that was decided on."""

    ruling: Ruling
    traceparent: str | None
    wanted: Counter[str] | None
    """None where a version that did not record it has decided."""

    def repeated(self, wanted: Counter[str]) -> Reserved:
        is_the_same = self.wanted is None or self.wanted == wanted
        return Reserved(self.ruling if is_the_same else CONFLICT, self.traceparent, is_new=False)


def _apply(connection: Connection, batch: Sequence[Reservation]) -> Sequence[Reserved]:
    # The rows of the stock are locked before the decisions are read: of two workers that hold the same order, the
    # second then sees the decision of the first. In one order, so that no two lock each other out.
    available = lock_levels(connection, {item.sku for each in batch for item in each.check.items})
    found = find_decisions(connection, {each.check.order_id for each in batch})
    decided = {order_id: _decided(row) for order_id, row in found.items()}
    taken: Counter[str] = Counter()
    results: list[Reserved] = []
    rows: list[dict[str, Any]] = []
    for each in batch:
        order_id, wanted = each.check.order_id, quantities(each.check.items)
        if order_id in decided:
            results.append(decided[order_id].repeated(wanted))
            continue
        ruling = decide(each.check.items, available)
        if ruling.status is OrderStatus.SUCCESS:
            taken += wanted
            available = {sku: level - wanted[sku] for sku, level in available.items()}
        decided[order_id] = _Decided(ruling, each.traceparent, wanted)
        rows.append(decision_row(order_id, ruling, wanted, each.traceparent))
        results.append(Reserved(ruling, each.traceparent, is_new=True))
    take(connection, taken)
    record(connection, rows)
    return results


def _decided(row: Row[Any]) -> _Decided:
    wanted = None if row.lines is None else Counter(dict(json.loads(row.lines)))
    return _Decided(_ruling_of(row), row.traceparent, wanted)


def _ruling_of(row: Row[Any]) -> Ruling:
    return Ruling(OrderStatus(row.status), row.reason)
