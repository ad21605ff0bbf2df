"""What is written about orders within shared transactions: new ones, decisions, and what became of their checks."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from order_api.order_table import NEW, find, ids, lock, row_of
from order_api.orders import Decision, Order, Outcome, Recorded
from shared.storage.bulk import Bulk
from shared.storage.database import Database
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

_ADDING = Bulk(
    "INSERT INTO orders ({columns}) SELECT {columns} FROM {given} WHERE true ORDER BY order_id ON CONFLICT DO NOTHING",
    **NEW,
)
# An `error` took no stock, so a decision that comes after it, from a replayed dead letter, is the truth.
_DECIDING = Bulk(
    "UPDATE orders SET status = given.status, reason = given.reason, decided_at = given.decided_at FROM {given} "
    "WHERE orders.order_id = given.order_id "
    "AND (orders.status = 'pending' OR (orders.status = 'error' AND given.status <> 'error'))",
    order_id="text",
    status="text",
    reason="text",
    decided_at="double precision",
)
_CONFIRMING = Bulk(
    "UPDATE orders SET published_at = given.published_at FROM {given} "
    "WHERE orders.order_id = given.order_id AND status = 'pending'",
    order_id="text",
    published_at="double precision",
)
_MAKING_DUE = Bulk(
    "UPDATE orders SET ask_at = 0 FROM {given} "
    "WHERE orders.order_id = given.order_id AND status = 'pending' AND published_at IS NULL",
    order_id="text",
)
_POSTPONING = Bulk(
    "UPDATE orders SET ask_at = given.until FROM {given} "
    "WHERE orders.order_id = given.order_id AND status = 'pending' AND ask_at < given.until",
    order_id="text",
    until="double precision",
)
_RELEASING = Bulk(
    "UPDATE orders SET ask_at = 0, ask_delay = ask_delay * 0.5 FROM {given} "
    "WHERE orders.order_id = given.order_id AND status = 'pending'",
    order_id="text",
)
STATEMENTS = "; ".join(each.statement for each in (_ADDING, _DECIDING, _CONFIRMING))
"""What a transaction runs above all, as it is told in traces."""


def order_commits(database: Database, first_ask_delay: float) -> OrderCommits:
    """Make the group commit of orders; a new one is due to be asked for again after `first_ask_delay` seconds."""
    return OrderCommits(database, "commit orders", partial(_apply, first_ask_delay), STATEMENTS)


def _apply(first_ask_delay: float, connection: Connection, batch: Sequence[OrderWrite]) -> Sequence[Any]:
    confirmed = {
        order_id: at for write in batch if isinstance(write, Confirmed) for order_id, at in write.published.items()
    }
    due = {order_id for write in batch if isinstance(write, Due) for order_id in write.order_ids}
    released = {order_id for write in batch if isinstance(write, Released) for order_id in write.order_ids}
    postponed = {write.order_id: write.until for write in batch if isinstance(write, Postponed)}
    decisions = [write for write in batch if isinstance(write, Decision)]

    stored = _add(connection, [write for write in batch if isinstance(write, Order)], first_ask_delay)
    # Every row that is changed here is locked first, in one order, so that no two instances lock each other out.
    lock(connection, {*(decision.order_id for decision in decisions), *confirmed, *due, *postponed, *released})
    recorded = iter(_record(connection, decisions))
    for statement, rows in (
        (_CONFIRMING, [{"order_id": order_id, "published_at": at} for order_id, at in confirmed.items()]),
        (_MAKING_DUE, ids(due)),
        (_POSTPONING, [{"order_id": order_id, "until": until} for order_id, until in postponed.items()]),
        (_RELEASING, ids(released)),
    ):
        if rows:
            statement.execute(connection, rows)
    return [_result(write, stored, recorded) for write in batch]


def _result(write: OrderWrite, stored: Mapping[str, Order], recorded: Iterator[Recorded | None]) -> Any:
    if isinstance(write, Order):
        return stored[write.order_id]
    return next(recorded) if isinstance(write, Decision) else None


def _add(connection: Connection, batch: Sequence[Order], first_ask_delay: float) -> dict[str, Order]:
    """Store orders, and give the order that is now stored under each id: the first one that came with it."""
    first_of_its_id: dict[str, Order] = {}
    for order in batch:
        first_of_its_id.setdefault(order.order_id, order)
    rows = [row_of(order, first_ask_delay) for order in first_of_its_id.values()]
    if rows and _ADDING.execute(connection, rows).rowcount < len(rows):
        return find(connection, first_of_its_id)
    return first_of_its_id


def _record(connection: Connection, decisions: Sequence[Decision]) -> list[Recorded | None]:
    """Record decisions in their order, and give what became of each."""
    results: list[Recorded | None] = []
    for some in _each_order_once(decisions):
        now = time.time()
        rows = [
            {"order_id": each.order_id, "status": each.status.value, "reason": each.reason, "decided_at": now}
            for each in some
        ]
        if _DECIDING.execute(connection, rows).rowcount == len(rows):
            results += [Recorded(each.order_id, Outcome(each.status, each.reason, now), is_new=True) for each in some]
        else:
            found = find(connection, {each.order_id for each in some})
            results += [_recorded(found.get(each.order_id), now) for each in some]
    return results


def _recorded(order: Order | None, now: float) -> Recorded | None:
    if order is None:
        return None
    outcome = Outcome(order.status, order.reason, order.decided_at)
    return Recorded(order.order_id, outcome, is_new=order.decided_at == now)


def _each_order_once(decisions: Sequence[Decision]) -> Iterator[Sequence[Decision]]:
    """Part decisions, in their order, into runs with at most one for each order: the next one must find it recorded."""
    run: dict[str, Decision] = {}
    for decision in decisions:
        if decision.order_id in run:
            yield list(run.values())
            run = {}
        run[decision.order_id] = decision
    if run:
        yield list(run.values())
