"""Transactions that meet each other, or lose their connection, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy import Connection, Engine, event, make_url, text

from inventory_worker import stock_table
from inventory_worker.stock_store import Reservation, SqlStockStore
from order_api.orders import Decision, Order
from shared.contract.errors import CommitUnknown
from shared.contract.messages import CheckInventory, Item, OrderStatus
from shared.storage.database import Database
from shared.tools.local.postgres import PrivatePostgres
from tests.order_database import OrderDatabase, an_order, opened
from tests.postgres import connect
from tests.tcp_proxy import TcpProxy


@pytest.fixture
async def url(postgres: PrivatePostgres) -> AsyncIterator[str]:
    with postgres.database() as url:
        yield url


async def test_two_apis_that_record_the_same_decisions_crosswise_refuse_no_new_order_in_60_rounds(url: str) -> None:
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(opened(url)) for _ in range(2)]
        for number in range(60):
            first, second = an_order(f"A{number}"), an_order(f"B{number}")
            await apis[0].add(first, second)
            decisions = [
                Decision(first.order_id, OrderStatus.SUCCESS, None),
                Decision(second.order_id, OrderStatus.OUT_OF_STOCK, "insufficient_stock: widget"),
            ]

            results = await asyncio.gather(
                *(apis[0].store.record(decision) for decision in decisions),
                apis[0].outbox.confirm({second.order_id: 1.0}),
                apis[0].store.add(an_order()),
                *(apis[1].store.record(decision) for decision in reversed(decisions)),
                apis[1].outbox.confirm({first.order_id: 1.0}),
                apis[1].store.add(an_order()),
            )

            recorded = [result for result in results if result is not None and not isinstance(result, tuple)]
            assert sorted(each.is_new for each in recorded) == [False, False, True, True]


async def test_two_workers_that_hold_the_same_orders_for_other_stock_decide_each_once_in_60_rounds(url: str) -> None:
    """Nothing but the decisions themselves keeps the two apart: no row of the stock is wanted by both."""

    def check(order_id: str, sku: str) -> Reservation:
        return Reservation(CheckInventory(order_id=order_id, items=(Item(sku=sku, quantity=1),)), None)

    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(_worker(url)) for _ in range(2)]
        await workers[0].set_level("left", 1000)
        await workers[0].set_level("right", 1000)
        for number in range(60):
            ids = [f"A{number}", f"B{number}"]

            decisions = await asyncio.gather(
                *(workers[0].reserve(check(order_id, "left")) for order_id in ids),
                *(workers[1].reserve(check(order_id, "right")) for order_id in reversed(ids)),
            )

            assert sum(decision.is_new for decision in decisions) == 2
        levels = await workers[0].levels()

    assert levels["left"] + levels["right"] == 2000 - 120


async def test_a_deadlock_is_tried_again_and_harms_nobody(url: str) -> None:
    """Two transactions take the same two rows crosswise, and each has its first before it asks for its second."""
    async with opened(url) as one, opened(url) as other:
        await one.add(an_order("A"), an_order("B"))
        begun = [0, 0]

        def crosswise(order_ids: str, number: int, connection: Connection) -> None:
            begun[number] += 1
            for order_id in order_ids:
                connection.execute(text("UPDATE orders SET reason = 'met' WHERE order_id = :it"), {"it": order_id})
                connection.execute(text("SELECT pg_sleep(0.5)")).close()

        await asyncio.gather(
            one.database.write(lambda connection: crosswise("AB", 0, connection)),
            other.database.write(lambda connection: crosswise("BA", 1, connection)),
        )

    assert sorted(begun) == [1, 2]


async def test_an_order_whose_commit_lost_its_connection_is_found_to_be_stored_and_new(url: str) -> None:
    async with TcpProxy("127.0.0.1", make_url(url).port or 0) as proxy, _opened_through(proxy, url) as orders:
        order = an_order()
        adding = await _add_without_hearing_of_the_commit(orders, order, proxy, url)

        proxy.cut()
        proxy.resume()
        stored, is_new = await adding

    assert (stored.order_id, is_new) == (order.order_id, True)


async def test_an_order_whose_commit_lost_its_database_is_not_called_unstored(url: str) -> None:
    async with TcpProxy("127.0.0.1", make_url(url).port or 0) as proxy, _opened_through(proxy, url) as orders:
        adding = await _add_without_hearing_of_the_commit(orders, an_order(), proxy, url)

        proxy.refuse()
        proxy.cut()
        proxy.resume()
        with pytest.raises(CommitUnknown):
            await adding


@asynccontextmanager
async def _worker(url: str) -> AsyncIterator[SqlStockStore]:
    async with Database(url, stock_table.MIGRATIONS).open() as database, SqlStockStore(database).running() as store:
        yield store


@asynccontextmanager
async def _opened_through(proxy: TcpProxy, url: str) -> AsyncIterator[OrderDatabase]:
    through = make_url(url).set(host="127.0.0.1", port=proxy.port)
    async with opened(through.render_as_string(hide_password=False)) as orders:
        yield orders


async def _add_without_hearing_of_the_commit(
    orders: OrderDatabase, order: Order, proxy: TcpProxy, url: str
) -> asyncio.Task[tuple[Order, bool]]:
    """Begin to add an order, and return when it is committed and the answer to that is held back on its way."""
    event.listen(Engine, "commit", lambda _: proxy.stall(to_target=False), once=True)
    adding = asyncio.create_task(orders.store.add(order))
    witness = await connect(url)
    try:
        async with asyncio.timeout(30):
            while not await witness.fetchval("SELECT count(*) FROM orders"):
                await asyncio.sleep(0.02)
    finally:
        await witness.close()
    return adding
