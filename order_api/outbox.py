"""The outbox: which orders are pending, and which of them are due to have their check published again.

An order is *confirmed* once the broker has confirmed its check: from then on, the check is in a queue or was handled, and to
publish it again takes evidence that it was lost. Each claim puts the next one of its order off, twice as far each time.
"""

import time
from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, Integer, Update, bindparam, case, func, select, update

from order_api.order_table import IS_PENDING, ORDER_COLUMNS, order_of, orders
from order_api.order_writes import Confirmed, Due, OrderCommits, Postponed, Released
from order_api.orders import Order
from shared.storage.database import Database

LONGEST_DELAY = 60.0
"""Seconds between two claims of an order that was never confirmed, at most."""
LONGEST_CONFIRMED_DELAY = 3600.0
ATTEMPT_SECONDS = 15.0
"""From the time of a next attempt until its result must have been heard of."""


def _claiming(which: ColumnElement[bool], longest_delay: float) -> Update:
    due = (
        select(orders.c.order_id)
        .where(IS_PENDING, orders.c.ask_at <= bindparam("now"), which)
        .order_by(orders.c.published_at, orders.c.ask_at)
        .limit(bindparam("limit", type_=Integer))
        # An instance takes what no other one is just taking.
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    doubled = orders.c.ask_delay * 2
    return (
        update(orders)
        .where(orders.c.order_id.in_(select(due.c.order_id)))
        .values(
            ask_at=bindparam("now") + orders.c.ask_delay,
            ask_delay=case((doubled > longest_delay, longest_delay), else_=doubled),
        )
        .returning(*ORDER_COLUMNS)
    )


_CLAIMING_UNCONFIRMED = _claiming(orders.c.published_at.is_(None), LONGEST_DELAY)
_CLAIMING_LOST = _claiming(orders.c.published_at < bindparam("published_before"), LONGEST_CONFIRMED_DELAY)
_CLAIMING_OLDEST = _claiming(orders.c.published_at.is_not(None), LONGEST_CONFIRMED_DELAY)
_COUNTING = select(func.count(), func.min(orders.c.created_at)).where(IS_PENDING)


class Outbox:
    """Keeps what was published of the pending orders, and hands out those that are due, each to one instance at a time."""

    def __init__(self, database: Database, commits: OrderCommits) -> None:
        self._database = database
        self._commits = commits

    async def confirm(self, published: Mapping[str, float]) -> None:
        """Note when the checks of orders were published that the broker has confirmed; times since the epoch."""
        if published:
            await self._commits.submit(Confirmed(published))

    async def make_due(self, order_ids: Collection[str]) -> None:
        """Let these orders be claimed at once, unless they were confirmed: their checks could not be published."""
        if order_ids:
            await self._commits.submit(Due(order_ids))

    async def postpone(self, order_id: str, seconds: float) -> None:
        """Claim an order no sooner than some time after `seconds`: until then its check waits for its next attempt."""
        await self._commits.submit(Postponed(order_id, time.time() + seconds + ATTEMPT_SECONDS))

    async def release(self, order_ids: Collection[str]) -> None:
        """Take claims back: these checks were not published after all, and are due at once, with the delay they had."""
        if order_ids:
            await self._commits.submit(Released(order_ids))

    async def claim_unconfirmed(self, limit: int) -> list[Order]:
        """Claim pending orders that are due and were never confirmed; the longest due first."""
        return await self._claim(_CLAIMING_UNCONFIRMED, limit)

    async def claim_lost(self, published_before: float, limit: int) -> list[Order]:
        """Claim pending orders that are due and were last published before a time, at which nothing older is queued."""
        return await self._claim(_CLAIMING_LOST, limit, published_before=published_before)

    async def claim_oldest(self) -> Order | None:
        """Claim the pending order that is due and was published longest ago: to ask for it shows whether it was lost."""
        claimed = await self._claim(_CLAIMING_OLDEST, 1)
        return claimed[0] if claimed else None

    async def pending(self) -> tuple[int, float | None]:
        """Count the pending orders, and give the age of the oldest in seconds; None where there is none."""
        count, oldest = await self._database.read(lambda connection: connection.execute(_COUNTING).one())
        return count, None if oldest is None else max(0.0, time.time() - oldest)

    async def _claim(self, claiming: Update, limit: int, **values: float) -> list[Order]:
        parameters = {"now": time.time(), "limit": limit, **values}
        return await self._database.write(
            lambda connection: [order_of(row) for row in connection.execute(claiming, parameters)]
        )
