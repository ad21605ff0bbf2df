"""Retention: what was decided long ago goes, and nothing else, on SQLite and on PostgreSQL."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, func, insert, select, update

from inventory_worker import stock_table
from order_api import order_table
from order_api.orders import Decision
from shared.contract.messages import OrderStatus
from shared.storage import retention
from shared.storage.database import Database
from shared.storage.retention import Retention
from tests.order_database import an_order, opened

DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP_SECONDS", 0.01)


async def test_old_decided_orders_go_and_undecided_or_fresh_ones_stay(database_url: str) -> None:
    async with opened(database_url) as orders:
        old, fresh, undecided = an_order(age=40 * DAY), an_order(age=40 * DAY), an_order(age=40 * DAY)
        await orders.add(old, fresh, undecided)
        for order in (old, fresh):
            await orders.store.record(Decision(order.order_id, OrderStatus.SUCCESS, None))
        await orders.database.write(
            lambda connection: connection.execute(
                update(order_table.orders)
                .where(order_table.orders.c.order_id == old.order_id)
                .values(decided_at=time.time() - 31 * DAY)
            ).close()
        )
        columns = order_table.orders.c

        async with Retention(orders.database, columns.order_id, columns.decided_at, days=30).running():
            await _until(lambda: _is_gone(orders.store.get(old.order_id)))

        assert await orders.store.get(fresh.order_id) is not None
        assert await orders.store.get(undecided.order_id) == undecided


async def test_1200_old_decisions_go_in_steps_of_at_most_500(database_url: str) -> None:
    steps: list[int] = []
    async with Database(database_url, stock_table.MIGRATIONS).open() as database:
        await database.write(_add_decisions)
        columns = stock_table.decisions.c
        removing = Retention(database, columns.order_id, columns.decided_at, days=30)
        remove_some = removing._remove_some

        def noted(connection: Connection) -> int:
            steps.append(remove_some(connection))
            return steps[-1]

        removing._remove_some = noted  # type: ignore[method-assign]
        async with removing.running():
            await _until(lambda: _has_rows(database, 10))

    assert steps == [500, 500, 200]


def _add_decisions(connection: Connection) -> None:
    rows = [
        {"order_id": f"D{number}", "status": "success", "decided_at": time.time() - (31 if number < 1200 else 1) * DAY}
        for number in range(1210)
    ]
    connection.execute(insert(stock_table.decisions), rows)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def _is_gone(finding: Awaitable[object]) -> bool:
    return await finding is None


async def _has_rows(database: Database, count: int) -> bool:
    counting = select(func.count()).select_from(stock_table.decisions)
    return await database.read(lambda connection: connection.execute(counting).scalar_one()) == count
