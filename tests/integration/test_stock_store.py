"""The contract of the stock store, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from inventory_worker import stock_table
from inventory_worker.stock_store import Reservation, SqlStockStore
from shared.contract.messages import CheckInventory, Item, OrderStatus
from shared.storage.database import Database
from tests.system import new_id

INITIAL = {"widget": 1000, "gadget": 3}


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[SqlStockStore]:
    fill = partial(stock_table.put_initial_stock, initial=INITIAL)
    async with (
        Database(url, stock_table.MIGRATIONS, fill).open() as database,
        SqlStockStore(database).running() as store,
    ):
        yield store


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStockStore]:
    async with _opened(database_url) as opened:
        yield opened


def _check(items: dict[str, int], order_id: str | None = None, traceparent: str | None = None) -> Reservation:
    lines = tuple(Item(sku=sku, quantity=quantity) for sku, quantity in items.items())
    return Reservation(CheckInventory(order_id=order_id or new_id(), items=lines), traceparent)


async def test_new_skus_get_their_initial_stock_and_known_ones_keep_theirs(database_url: str) -> None:
    async with _opened(database_url) as first:
        await first.set_level("gadget", 50)

    async with _opened(database_url) as second:
        assert await second.levels() == {"gadget": 50, "widget": 1000}


async def test_stock_is_taken_for_all_items_or_for_none(store: SqlStockStore) -> None:
    refused = await store.reserve(_check({"widget": 5, "gadget": 4}))
    taken = await store.reserve(_check({"widget": 5, "gadget": 3}))

    assert (refused.ruling.status, refused.ruling.reason) == (OrderStatus.OUT_OF_STOCK, "insufficient_stock: gadget")
    assert taken.ruling.status is OrderStatus.SUCCESS
    assert await store.levels() == {"gadget": 0, "widget": 995}


async def test_a_repeat_gets_the_recorded_decision_and_the_span_that_took_it(store: SqlStockStore) -> None:
    order_id = new_id()
    first = await store.reserve(_check({"widget": 5}, order_id, "first"))

    repeat = await store.reserve(_check({"widget": 5}, order_id, "second"))

    assert (first.is_new, repeat.is_new) == (True, False)
    assert (repeat.ruling, repeat.traceparent) == (first.ruling, "first")
    assert await store.levels() == {"gadget": 3, "widget": 995}


async def test_a_known_order_with_other_items_is_a_conflict_that_takes_and_changes_nothing(
    store: SqlStockStore,
) -> None:
    order_id = new_id()
    first = await store.reserve(_check({"widget": 5, "gadget": 1}, order_id, "first"))

    others = [{"widget": 5}, {"widget": 5, "gadget": 2}, {"widget": 5, "gadget": 1, "gizmo": 1}]
    conflicts = [await store.reserve(_check(items, order_id, "second")) for items in others]
    turned = await store.reserve(_check({"gadget": 1, "widget": 5}, order_id, "third"))

    assert {(each.ruling.status, each.ruling.reason) for each in conflicts} == {(OrderStatus.ERROR, "conflict")}
    assert {(each.is_new, each.traceparent) for each in conflicts} == {(False, "first")}
    assert turned.ruling == first.ruling == await store.find_ruling(order_id)
    assert await store.levels() == {"gadget": 2, "widget": 995}


async def test_of_two_checks_for_one_order_in_one_batch_the_first_decides(store: SqlStockStore) -> None:
    order_id = new_id()

    decisions = await asyncio.gather(*(store.reserve(_check({"widget": n}, order_id)) for n in (1, 2, 1)))

    assert [decision.is_new for decision in decisions] == [True, False, False]
    assert [decision.ruling.reason for decision in decisions] == [None, "conflict", None]
    assert await store.levels() == {"gadget": 3, "widget": 999}


async def test_a_refusal_is_recorded_too_and_stands_after_restocking(store: SqlStockStore) -> None:
    order_id = new_id()
    await store.reserve(_check({"gadget": 4}, order_id))
    await store.set_level("gadget", 100)

    repeat = await store.reserve(_check({"gadget": 4}, order_id))

    assert repeat.ruling.status is OrderStatus.OUT_OF_STOCK
    assert (await store.levels())["gadget"] == 100


async def test_concurrent_orders_never_take_more_than_there_is(store: SqlStockStore) -> None:
    decisions = await asyncio.gather(*(store.reserve(_check({"gadget": 1})) for _ in range(50)))

    assert sum(decision.ruling.status is OrderStatus.SUCCESS for decision in decisions) == 3
    assert (await store.levels())["gadget"] == 0


async def test_two_workers_on_one_database_take_each_orders_stock_once(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_opened(database_url)) for _ in range(2)]
        orders = [_check({"widget": 1, "gadget": 1} if n % 10 == 0 else {"widget": 1}) for n in range(100)]
        unknown = [_check({"nope": 1}) for _ in range(20)]

        decisions = await asyncio.gather(*(store.reserve(order) for order in [*orders, *unknown] for store in stores))

        assert sum(decision.is_new for decision in decisions) == 120
        taken = sum(d.is_new and d.ruling.status is OrderStatus.SUCCESS for d in decisions)
        assert (await stores[0].levels())["widget"] == 1000 - taken
        assert (await stores[0].levels())["gadget"] == 0


async def test_a_level_never_goes_below_zero_even_past_the_rules(store: SqlStockStore) -> None:
    await store.set_level("widget", 0)

    decision = await store.reserve(_check({"widget": 1}))

    assert decision.ruling.status is OrderStatus.OUT_OF_STOCK
