"""What is written about orders within shared transactions: new ones, decisions, and what became of their checks."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, bindparam, update

from order_api.order_table import IS_PENDING, THESE, find, lock, orders, row_of
from order_api.orders import Decision, Order, Recorded
from shared.contract.messages import OrderStatus
from shared.storage.database import Database, insert_for
from shared.storage.group_commit import GroupCommit


@dataclass(frozen=True, slots=True)
class Confirmed:
    """When the checks of orders were published, by order id."""

    published: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Due:
    """Orders whose checks could not be published."""

    order_ids: Collection[str]


@dataclass(frozen=True, slots=True)
class Postponed:
    """An order whose check is tried again by the inventory itself, and the time before which it is not to be claimed."""

    order_id: str
    until: float


@dataclass(frozen=True, slots=True)
class Released:
    """Orders that were claimed, and whose checks could not be published."""

    order_ids: Collection[str]


OrderWrite = Order | Decision | Confirmed | Due | Postponed | Released
OrderCommits = GroupCommit[OrderWrite, Any]

# Statements are built once: building one, and the key under which its SQL is kept, takes longer than running it.
_DECIDING = (
    update(orders)
    .where(THESE)
    .values(status=bindparam("new_status"), reason=bindparam("new_reason"), decided_at=bindparam("now"))
)
_CONFIRMING = (
    update(orders)
    .where(orders.c.order_id == bindparam("confirmed_id"), IS_PENDING)
    .values(published_at=bindparam("at"))
)
_MAKING_DUE = update(orders).where(THESE, IS_PENDING, orders.c.published_at.is_(None)).values(ask_at=0.0)
_POSTPONING = (
    update(orders)
    .where(orders.c.order_id == bindparam("postponed_id"), IS_PENDING, orders.c.ask_at < bindparam("until"))
    .values(ask_at=bindparam("until"))
)
_RELEASING = update(orders).where(THESE, IS_PENDING).values(ask_at=0.0, ask_delay=orders.c.ask_delay * 0.5)


def order_commits(database: Database, first_ask_delay: float) -> OrderCommits:
    """Make the group commit of orders; a new one is due to be asked for again after `first_ask_delay` seconds."""
    return OrderCommits(database, "commit orders", partial(_apply, first_ask_delay))


def _apply(first_ask_delay: float, connection: Connection, batch: Sequence[OrderWrite]) -> Sequence[Any]:
    confirmed = {
        order_id: at for write in batch if isinstance(write, Confirmed) for order_id, at in write.published.items()
    }
    due = {order_id for write in batch if isinstance(write, Due) for order_id in write.order_ids}
    released = {order_id for write in batch if isinstance(write, Released) for order_id in write.order_ids}
    postponed = {write.order_id: write.until for write in batch if isinstance(write, Postponed)}
    decisions = [write for write in batch if isinstance(write, Decision)]

    stored = _add(connection, [write for write in batch if isinstance(write, Order)], first_ask_delay)
    # Every row that is changed here is locked first, in one order, so that no two instances lock each other out; SQLite has
    # one writer.
    others = () if connection.dialect.name == "sqlite" else (*confirmed, *due, *postponed, *released)
    known = lock(connection, {*(decision.order_id for decision in decisions), *others})
    recorded = iter(_record(connection, decisions, known))
    if confirmed:
        connection.execute(_CONFIRMING, [{"confirmed_id": order_id, "at": at} for order_id, at in confirmed.items()])
    if due:
        connection.execute(_MAKING_DUE, {"order_ids": sorted(due)})
    if postponed:
        connection.execute(_POSTPONING, [{"postponed_id": key, "until": until} for key, until in postponed.items()])
    if released:
        connection.execute(_RELEASING, {"order_ids": sorted(released)})
    return [_result(write, stored, recorded) for write in batch]


def _result(write: OrderWrite, stored: Mapping[str, Order], recorded: Iterator[Recorded | None]) -> Any:
    if isinstance(write, Order):
        return stored[write.order_id]
    return next(recorded) if isinstance(write, Decision) else None


@cache
def _adding(dialect: str) -> Any:
    return insert_for(dialect, orders).on_conflict_do_nothing().returning(orders.c.order_id)


def _add(connection: Connection, batch: Sequence[Order], first_ask_delay: float) -> dict[str, Order]:
    """Store orders, and give the order that is now stored under each id: the first one that came with it."""
    if not batch:
        return {}
    first_of_its_id: dict[str, Order] = {}
    for order in batch:
        first_of_its_id.setdefault(order.order_id, order)
    # Sorted, so that two instances that insert the same ids wait for each other instead of locking each other out.
    rows = [row_of(order, first_ask_delay) for _, order in sorted(first_of_its_id.items())]
    new = set(connection.scalars(_adding(connection.dialect.name), rows).all())
    return {**first_of_its_id, **find(connection, first_of_its_id.keys() - new)}


def _record(connection: Connection, decisions: Sequence[Decision], known: dict[str, Order]) -> list[Recorded | None]:
    """Record decisions in their order on the orders that are known, and give what became of each."""
    results: list[Recorded | None] = []
    changed: dict[str, Order] = {}
    now = time.time()
    for decision in decisions:
        order = known.get(decision.order_id)
        is_new = order is not None and order.gives_way_to(decision)
        if order is not None and is_new:
            order = replace(order, status=decision.status, reason=decision.reason, decided_at=now)
            known[order.order_id] = changed[order.order_id] = order
        results.append(None if order is None else Recorded(order, is_new))
    for (status, reason), order_ids in _by_outcome(changed).items():
        outcome = {"new_status": status.value, "new_reason": reason, "now": now}
        connection.execute(_DECIDING, {**outcome, "order_ids": order_ids})
    return results


def _by_outcome(changed: dict[str, Order]) -> dict[tuple[OrderStatus, str | None], list[str]]:
    """Group orders that one UPDATE can change: there are few outcomes, however many orders."""
    groups: dict[tuple[OrderStatus, str | None], list[str]] = defaultdict(list)
    for order_id, order in sorted(changed.items()):
        groups[order.status, order.reason].append(order_id)
    return groups
