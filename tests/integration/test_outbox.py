"""The contract of the outbox, on SQLite and on PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text, update

from order_api import order_table
from order_api.orders import Decision, Order
from order_api.outbox import Outbox
from shared.contract.messages import OrderStatus
from tests.order_database import TRACEPARENT, OrderDatabase, an_order, opened

Claim = Callable[[Outbox], Awaitable[list[Order]]]


@pytest.fixture
async def orders(database_url: str) -> AsyncIterator[OrderDatabase]:
    async with opened(database_url) as database:
        yield database


async def _lost(outbox: Outbox) -> list[Order]:
    return await outbox.claim_lost(time.time(), 25)


async def _oldest(outbox: Outbox) -> list[Order]:
    claimed = await outbox.claim_oldest()
    return [] if claimed is None else [claimed]


async def _unconfirmed(outbox: Outbox) -> list[Order]:
    return await outbox.claim_unconfirmed(25)


async def test_only_due_orders_are_claimed_and_each_claim_puts_the_next_one_off(orders: OrderDatabase) -> None:
    decided, due, fresh = an_order(age=100), an_order(age=100), an_order()
    await orders.add(decided, due, fresh)
    await orders.store.record(Decision(decided.order_id, OrderStatus.SUCCESS, None))

    first = await orders.outbox.claim_unconfirmed(10)
    again_at_once = await orders.outbox.claim_unconfirmed(10)

    assert [(order.order_id, order.traceparent) for order in first] == [(due.order_id, TRACEPARENT)]
    assert again_at_once == []


async def test_an_order_that_could_not_be_asked_for_is_due_at_once(orders: OrderDatabase) -> None:
    order = an_order()
    await orders.add(order)

    await orders.outbox.make_due([order.order_id])

    assert [claimed.order_id for claimed in await orders.outbox.claim_unconfirmed(10)] == [order.order_id]


async def test_a_confirmed_order_is_claimed_only_as_lost_and_only_if_published_before_the_time(
    orders: OrderDatabase,
) -> None:
    early, late = an_order(age=100), an_order(age=100)
    await orders.add(early, late)

    await orders.outbox.confirm({early.order_id: 1000.0, late.order_id: 2000.0})

    assert await orders.outbox.claim_unconfirmed(10) == []
    assert await orders.outbox.claim_lost(1000.0, 10) == []
    assert [order.order_id for order in await orders.outbox.claim_lost(2000.0, 10)] == [early.order_id]
    assert await orders.outbox.claim_lost(2000.0, 10) == []


async def test_a_confirmation_changes_no_decided_order_and_lasts_against_being_due(orders: OrderDatabase) -> None:
    decided, confirmed = an_order(age=100), an_order(age=100)
    await orders.add(decided, confirmed)
    await orders.store.record(Decision(decided.order_id, OrderStatus.SUCCESS, None))

    await orders.outbox.confirm({decided.order_id: 5.0, confirmed.order_id: 7.0, "unknown": 9.0})
    await orders.outbox.make_due([confirmed.order_id, decided.order_id])

    assert await orders.outbox.claim_unconfirmed(10) == []
    assert await _column(orders, "published_at", decided) is None
    assert await _column(orders, "published_at", confirmed) == 7.0
    assert await _column(orders, "ask_at", confirmed) == pytest.approx(confirmed.created_at + 60)


async def test_the_oldest_of_the_confirmed_orders_is_claimed_for_a_probe_and_then_the_next(
    orders: OrderDatabase,
) -> None:
    never, second, first = an_order(age=100), an_order(age=100), an_order(age=100)
    await orders.add(never, second, first)
    await orders.outbox.confirm({second.order_id: 2000.0, first.order_id: 1000.0})

    claimed = [await orders.outbox.claim_oldest() for _ in range(3)]

    assert [order and order.order_id for order in claimed] == [first.order_id, second.order_id, None]


@pytest.mark.parametrize(
    ("claim", "is_confirmed", "delays"),
    [
        (_unconfirmed, False, [40.0, 60.0, 60.0]),
        (_lost, True, [40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 3600.0, 3600.0]),
        (_oldest, True, [40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 3600.0, 3600.0]),
    ],
)
async def test_the_delay_between_claims_doubles_up_to_a_minute_and_for_confirmed_orders_to_an_hour(
    database_url: str, claim: Claim, is_confirmed: bool, delays: list[float]
) -> None:
    async with opened(database_url, first_ask_delay=20.0) as orders:
        order = an_order(age=100)
        await orders.add(order)
        if is_confirmed:
            await orders.outbox.confirm({order.order_id: 1000.0})

        found = []
        for delay in [20.0, *delays[:-1]]:
            await orders.database.write(_make_due_as_time_does)
            before = time.time()
            assert await claim(orders.outbox) == [order]
            found.append(await _column(orders, "ask_delay", order))
            assert before + delay <= await _column(orders, "ask_at", order) <= time.time() + delay

    assert found == delays


async def test_a_released_order_is_due_at_once_with_the_delay_it_had(orders: OrderDatabase) -> None:
    order = an_order(age=100)
    await orders.add(order)
    await orders.outbox.make_due([order.order_id])
    await orders.outbox.claim_unconfirmed(10)

    await orders.outbox.release([order.order_id])

    assert (
        await _column(orders, "ask_delay", order) == 30.0
    )  # half of 60, which is as far as the claim could put it off
    assert await orders.outbox.claim_unconfirmed(10) == [order]


@pytest.mark.parametrize("claim", [_unconfirmed, _lost, _oldest])
async def test_two_instances_never_claim_the_same_order(database_url: str, claim: Claim) -> None:
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(opened(database_url)) for _ in range(3)]
        placed = [an_order(age=100) for _ in range(60)]
        await instances[0].add(*placed)
        if claim is not _unconfirmed:
            await instances[0].outbox.confirm({order.order_id: float(n) for n, order in enumerate(placed)})

        claims = await asyncio.gather(*(claim(each.outbox) for each in instances for _ in range(2)))

        claimed = [order.order_id for claim in claims for order in claim]
        assert len(claimed) == len(set(claimed)) == (6 if claim is _oldest else 60)


async def test_the_pending_orders_are_counted_with_the_age_of_the_oldest(orders: OrderDatabase) -> None:
    assert await orders.outbox.pending() == (0, None)
    oldest, decided = an_order(age=500), an_order(age=900)
    await orders.add(an_order(age=20), oldest, decided)
    await orders.store.record(Decision(decided.order_id, OrderStatus.SUCCESS, None))

    count, age = await orders.outbox.pending()

    assert count == 2
    assert age == pytest.approx(500, abs=60)


async def test_beside_100_000_decided_orders_the_outbox_reads_only_the_pending_ones(orders: OrderDatabase) -> None:
    for part in range(5):
        await orders.database.write(partial(_add_20_000_decided, part))
    pending = [an_order(age=100) for _ in range(50)]
    await orders.add(*pending)
    await orders.outbox.confirm({order.order_id: 1000.0 for order in pending[:25]})
    await orders.database.write(lambda connection: connection.execute(text("ANALYZE")).close())

    with _Statements() as statements:
        await orders.outbox.claim_unconfirmed(10)
        await orders.outbox.claim_lost(2000.0, 10)
        await orders.outbox.claim_oldest()
        await orders.outbox.pending()

    plans = [await orders.database.write(statement.explain) for statement in statements.seen if statement.is_ours]
    assert len(plans) == 4
    for plan in plans:
        assert "orders_pending" in plan or "orders_to_ask" in plan, plan
        assert "Seq Scan on orders" not in plan
        assert "SCAN orders" not in plan.replace("SCAN orders USING INDEX orders_", "")


async def _column(orders: OrderDatabase, name: str, order: Order) -> Any:
    reading = select(order_table.orders.c[name]).where(order_table.orders.c.order_id == order.order_id)
    return await orders.database.read(lambda connection: connection.execute(reading).scalar_one())


def _make_due_as_time_does(connection: Connection) -> None:
    connection.execute(update(order_table.orders).values(ask_at=0.0))


def _add_20_000_decided(part: int, connection: Connection) -> None:
    columns = "order_id, lines, created_at, status, decided_at, published_at, ask_at, ask_delay"
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)"
    row = f"'decided-{part}-' || n, '[]', 1.0, 'success', 2.0, 1.5, 11.0, 10.0"
    connection.execute(text(f"INSERT INTO orders ({columns}) {numbers} SELECT {row} FROM numbers"))


class _Statement:
    def __init__(self, sql: str, parameters: Any) -> None:
        self._sql = sql
        self._parameters = parameters

    @property
    def is_ours(self) -> bool:
        return "orders" in self._sql

    def explain(self, connection: Connection) -> str:
        how = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        plan = connection.exec_driver_sql(f"{how} {self._sql}", self._parameters)
        return "\n".join(str(row[-1]) for row in plan)


class _Statements:
    """Notes what is executed."""

    def __init__(self) -> None:
        self.seen: list[_Statement] = []

    def __enter__(self) -> "_Statements":
        event.listen(Engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        self.seen.append(_Statement(sql, parameters))
