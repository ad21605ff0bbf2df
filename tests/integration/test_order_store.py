"""The contract of the order store, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from order_api.order_store import SqlOrderStore
from order_api.orders import Decision
from shared.contract.messages import OrderStatus
from tests.order_database import OrderDatabase, an_order, opened


@pytest.fixture
async def orders(database_url: str) -> AsyncIterator[OrderDatabase]:
    async with opened(database_url) as database:
        yield database


@pytest.fixture
def store(orders: OrderDatabase) -> SqlOrderStore:
    return orders.store


async def test_an_order_comes_back_as_it_was_added(store: SqlOrderStore) -> None:
    order = an_order()

    stored, is_new = await store.add(order)

    assert (stored, is_new) == (order, True)
    assert await store.get(order.order_id) == order
    assert await store.get("another") is None


async def test_a_second_order_of_the_same_id_gets_the_first(store: SqlOrderStore) -> None:
    first, second = an_order("same", 1), an_order("same", 2, "00-" + "3" * 32 + "-" + "4" * 16 + "-01")
    await store.add(first)

    stored, is_new = await store.add(second)

    assert (stored, is_new) == (first, False)


async def test_concurrent_orders_of_one_id_are_one_order(store: SqlOrderStore) -> None:
    orders = [an_order("same", number, f"00-{number:032x}-{number:016x}-01") for number in range(1, 40)]

    results = await asyncio.gather(*map(store.add, orders))

    assert sum(is_new for _, is_new in results) == 1
    assert len({stored.items for stored, _ in results}) == 1


async def test_a_decision_is_recorded_once(store: SqlOrderStore) -> None:
    order = an_order()
    await store.add(order)

    first = await store.record(Decision(order.order_id, OrderStatus.OUT_OF_STOCK, "insufficient_stock: widget"))
    second = await store.record(Decision(order.order_id, OrderStatus.SUCCESS, None))

    assert first is not None
    assert second is not None
    assert (first.is_new, second.is_new) == (True, False)
    assert first.outcome == second.outcome
    assert (first.outcome.status, first.outcome.reason) == (OrderStatus.OUT_OF_STOCK, "insufficient_stock: widget")
    assert first.outcome.decided_at is not None
    assert await store.get(order.order_id) == order.with_outcome(first.outcome)


async def test_a_decision_for_an_unknown_order_is_recorded_nowhere(store: SqlOrderStore) -> None:
    assert await store.record(Decision("nobody", OrderStatus.SUCCESS, None)) is None
    assert await store.get("nobody") is None


async def test_an_error_gives_way_to_a_later_decision_and_to_no_other_error(store: SqlOrderStore) -> None:
    order = an_order()
    await store.add(order)

    outcomes = [
        await store.record(Decision(order.order_id, status, reason))
        for status, reason in [
            (OrderStatus.ERROR, "dead_letter: retries_exhausted"),
            (OrderStatus.ERROR, "another"),
            (OrderStatus.SUCCESS, None),
            (OrderStatus.ERROR, "too late"),
        ]
    ]

    assert [outcome and outcome.is_new for outcome in outcomes] == [True, False, True, False]
    stored = await store.get(order.order_id)
    assert stored is not None
    assert (stored.status, stored.reason) == (OrderStatus.SUCCESS, None)


async def test_many_concurrent_writes_all_arrive(orders: OrderDatabase) -> None:
    store = orders.store
    many = [an_order() for _ in range(500)]

    added = await asyncio.gather(*map(store.add, many))
    recorded = await asyncio.gather(
        *(
            store.record(Decision(order.order_id, OrderStatus.SUCCESS if n % 2 else OrderStatus.OUT_OF_STOCK, None))
            for n, order in enumerate(many)
        )
    )

    assert all(is_new for _, is_new in added)
    assert all(outcome is not None and outcome.is_new for outcome in recorded)
    assert await orders.outbox.pending() == (0, None)


async def test_what_was_added_survives_the_end_of_its_instance(database_url: str) -> None:
    order = an_order()
    async with opened(database_url) as first:
        await first.add(order)

    async with opened(database_url) as second:
        assert await second.store.get(order.order_id) == order
