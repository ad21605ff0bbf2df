"""Orders in a database. The table is the outbox too: what is pending in it is still to be asked."""

import json
import time
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Self

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Index,
    MetaData,
    Row,
    Table,
    Text,
    bindparam,
    case,
    func,
    select,
    update,
)

from order_api.orders import Customer, Decision, Order, Recorded
from shared.contract.messages import Item, OrderStatus
from shared.storage.database import Database, GroupCommit, insert_for

LONGEST_ASK_DELAY = 60.0
"""Seconds between two questions for one order, at most."""

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
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
)
_IS_PENDING = orders.c.status == OrderStatus.PENDING.value
_IS_ERROR = orders.c.status == OrderStatus.ERROR.value
Index("orders_to_ask", orders.c.ask_at, sqlite_where=_IS_PENDING, postgresql_where=_IS_PENDING)

_ORDER_COLUMNS: tuple[Column[Any], ...] = (
    orders.c.order_id,
    orders.c.lines,
    orders.c.customer,
    orders.c.created_at,
    orders.c.traceparent,
    orders.c.status,
    orders.c.reason,
    orders.c.decided_at,
)

# Statements are built once: building one, and the key under which its SQL is kept, takes longer than running it.
_THESE = orders.c.order_id.in_(bindparam("order_ids", expanding=True))
_FINDING = select(orders).where(_THESE)
_RECORDING_ANY = (
    update(orders)
    .where(_THESE)
    .values(status=bindparam("new_status"), reason=bindparam("new_reason"), decided_at=bindparam("now"))
    .returning(*_ORDER_COLUMNS)
)
_RECORDING = _RECORDING_ANY.where(_IS_PENDING | _IS_ERROR)
_RECORDING_ERROR = _RECORDING_ANY.where(_IS_PENDING)


@cache
def _adding(dialect: str) -> Any:
    return insert_for(dialect, orders).on_conflict_do_nothing().returning(orders.c.order_id)


class SqlOrderStore:
    """Keeps orders in SQLite or PostgreSQL; writes of concurrent requests share a transaction."""

    def __init__(self, database: Database, first_ask_delay: float) -> None:
        self._database = database
        self._first_ask_delay = first_ask_delay
        self._commits = GroupCommit[Order | Decision, Any](
            database, "commit orders", self._apply, must_be_durable=lambda write: isinstance(write, Order)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Commit while the context lasts."""
        async with self._commits.running():
            yield self

    async def add(self, order: Order) -> tuple[Order, bool]:
        """Store a pending order; gives the stored one, and whether it was new."""
        stored: Order = await self._commits.submit(order)
        # A write that was done again after a lost commit finds itself, by its own trace context.
        return stored, stored is order or (order.traceparent is not None and stored.traceparent == order.traceparent)

    async def record(self, decision: Decision) -> Recorded | None:
        """Record a decision; None for an order that is not known here.

        An `error` gives way to a later decision, because it took no stock: that is how a replayed dead letter completes.
        """
        recorded: Recorded | None = await self._commits.submit(decision)
        return recorded

    async def get(self, order_id: str) -> Order | None:
        """Find an order."""
        found = await self._database.read(lambda connection: _find(connection, {order_id}))
        return found.get(order_id)

    async def ask_at_once(self, order_id: str) -> None:
        """Let the relay ask for this order as soon as it can."""
        at_once = update(orders).where(orders.c.order_id == order_id).values(ask_at=0.0)
        await self._database.write(lambda connection: connection.execute(at_once).close(), is_durable=False)

    async def claim_unanswered(self, limit: int) -> list[Order]:
        """Claim pending orders that are due to be asked again; each claim puts the next one off, twice as far each time."""
        now = time.time()
        due = (
            select(orders.c.order_id)
            .where(_IS_PENDING, orders.c.ask_at <= now)
            .order_by(orders.c.ask_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        doubled = orders.c.ask_delay * 2
        claim = (
            update(orders)
            .where(orders.c.order_id.in_(due))
            .values(
                ask_at=now + orders.c.ask_delay,
                ask_delay=case((doubled > LONGEST_ASK_DELAY, LONGEST_ASK_DELAY), else_=doubled),
            )
            .returning(*_ORDER_COLUMNS)
        )
        return await self._database.write(
            lambda connection: [_order(row) for row in connection.execute(claim)], is_durable=False
        )

    async def release(self, order_ids: Sequence[str]) -> None:
        """Take claims back: these orders were not asked after all, and are due at once, with the pause they had."""
        halved = orders.c.ask_delay * 0.5
        releasing = update(orders).where(orders.c.order_id.in_(order_ids)).values(ask_at=0.0, ask_delay=halved)
        await self._database.write(lambda connection: connection.execute(releasing).close(), is_durable=False)

    async def count_pending(self) -> int:
        """Count the orders without an outcome."""
        pending = select(func.count()).where(_IS_PENDING)
        return await self._database.read(lambda connection: int(connection.execute(pending).scalar_one()))

    def _apply(self, connection: Connection, batch: Sequence[Order | Decision]) -> Sequence[Any]:
        added = self._add(connection, [write for write in batch if isinstance(write, Order)])
        recorded = self._record(connection, [write for write in batch if isinstance(write, Decision)])
        return [added.pop(id(write)) if isinstance(write, Order) else recorded.pop(id(write)) for write in batch]

    def _add(self, connection: Connection, batch: list[Order]) -> dict[int, Order]:
        if not batch:
            return {}
        first_of_its_id: dict[str, Order] = {}
        for order in batch:
            first_of_its_id.setdefault(order.order_id, order)
        # Sorted, so that two instances that insert the same ids wait for each other instead of locking each other out.
        rows = [self._row(first_of_its_id[order_id]) for order_id in sorted(first_of_its_id)]
        new = set(connection.scalars(_adding(connection.dialect.name), rows).all())
        known = _find(connection, first_of_its_id.keys() - new)
        stored = {**first_of_its_id, **known}
        return {id(order): stored[order.order_id] for order in batch}

    def _record(self, connection: Connection, batch: list[Decision]) -> dict[int, Recorded | None]:
        found: dict[str, Order] = {}
        new: set[int] = set()
        for (status, reason), decisions in _by_outcome(batch).items():
            # A dead letter took no stock, so a decision that comes after it, from a replay, is the truth.
            recording = _RECORDING_ERROR if status is OrderStatus.ERROR else _RECORDING
            what = {"new_status": status.value, "new_reason": reason, "now": time.time()}
            for row in connection.execute(recording, {**what, "order_ids": sorted(decisions)}):
                found[row.order_id] = _order(row)
                new.add(id(decisions[row.order_id]))
        found |= _find(connection, {decision.order_id for decision in batch} - found.keys())
        return {
            id(decision): Recorded(found[decision.order_id], id(decision) in new)
            if decision.order_id in found
            else None
            for decision in batch
        }

    def _row(self, order: Order) -> dict[str, Any]:
        return {
            "order_id": order.order_id,
            "lines": json.dumps([[item.sku, item.quantity] for item in order.items]),
            "customer": None
            if order.customer is None
            else json.dumps({"id": order.customer.id, "email": order.customer.email}),
            "created_at": order.created_at,
            "traceparent": order.traceparent,
            "status": order.status.value,
            "ask_at": order.created_at + self._first_ask_delay,
            "ask_delay": self._first_ask_delay,
        }


def _by_outcome(batch: Sequence[Decision]) -> dict[tuple[OrderStatus, str | None], dict[str, Decision]]:
    """Group decisions that one UPDATE can record: there are few outcomes, however many orders."""
    groups: dict[tuple[OrderStatus, str | None], dict[str, Decision]] = {}
    for decision in batch:
        groups.setdefault((decision.status, decision.reason), {})[decision.order_id] = decision
    return groups


def _find(connection: Connection, order_ids: Set[str]) -> dict[str, Order]:
    if not order_ids:
        return {}
    found = connection.execute(_FINDING, {"order_ids": sorted(order_ids)})
    return {row.order_id: _order(row) for row in found}


def _order(row: Row[Any]) -> Order:
    return Order(
        order_id=row.order_id,
        # What was stored was validated: building the items without a second validation keeps reads cheap.
        items=tuple(Item.model_construct(sku=sku, quantity=quantity) for sku, quantity in json.loads(row.lines)),
        customer=None if row.customer is None else Customer(**json.loads(row.customer)),
        created_at=row.created_at,
        traceparent=row.traceparent,
        status=OrderStatus(row.status),
        reason=row.reason,
        decided_at=row.decided_at,
    )
