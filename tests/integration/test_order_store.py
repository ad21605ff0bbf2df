"""The contract of the order store, on SQLite and on PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from order_api import order_store
from order_api.order_store import SqlOrderStore
from order_api.orders import Customer, Decision, Order
from shared.contract.messages import Item, OrderStatus
from shared.storage.database import Database
from tests.system import new_id

TRACEPARENT = "00-11111111111111111111111111111111-2222222222222222-01"


@asynccontextmanager
async def _opened(url: str, first_ask_delay: float = 60.0) -> AsyncIterator[SqlOrderStore]:
    async with (
        Database(url, order_store.metadata).open() as database,
        SqlOrderStore(database, first_ask_delay).running() as store,
    ):
        yield store


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlOrderStore]:
    async with _opened(database_url) as opened:
        yield opened


def _order(
    order_id: str | None = None, quantity: int = 1, traceparent: str | None = TRACEPARENT, age: float = 0.0
) -> Order:
    return Order(
        order_id=order_id or new_id(),
        items=(Item(sku="gizmo", quantity=2), Item(sku="widget", quantity=quantity)),
        customer=Customer("c-1", "someone@example.com"),
        created_at=time.time() - age,
        traceparent=traceparent,
    )


async def test_an_order_comes_back_as_it_was_added(store: SqlOrderStore) -> None:
    order = _order()

    stored, is_new = await store.add(order)

    assert (stored, is_new) == (order, True)
    assert await store.get(order.order_id) == order
    assert await store.get("another") is None


async def test_a_second_order_of_the_same_id_gets_the_first(store: SqlOrderStore) -> None:
    first, second = _order("same", 1), _order("same", 2, "00-" + "3" * 32 + "-" + "4" * 16 + "-01")
    await store.add(first)

    stored, is_new = await store.add(second)

    assert (stored, is_new) == (first, False)


async def test_concurrent_orders_of_one_id_are_one_order(store: SqlOrderStore) -> None:
    orders = [_order("same", number, f"00-{number:032x}-{number:016x}-01") for number in range(1, 40)]

    results = await asyncio.gather(*map(store.add, orders))

    assert sum(is_new for _, is_new in results) == 1
    assert len({stored.items for stored, _ in results}) == 1


async def test_a_decision_is_recorded_once(store: SqlOrderStore) -> None:
    order = _order()
    await store.add(order)

    first = await store.record(Decision(order.order_id, OrderStatus.OUT_OF_STOCK, "insufficient_stock: widget"))
    second = await store.record(Decision(order.order_id, OrderStatus.SUCCESS, None))

    assert first is not None
    assert second is not None
    assert (first.is_new, second.is_new) == (True, False)
    assert first.order == second.order
    assert (first.order.status, first.order.reason) == (OrderStatus.OUT_OF_STOCK, "insufficient_stock: widget")
    assert first.order.decided_at is not None


async def test_a_decision_for_an_unknown_order_is_recorded_nowhere(store: SqlOrderStore) -> None:
    assert await store.record(Decision("nobody", OrderStatus.SUCCESS, None)) is None
    assert await store.get("nobody") is None


async def test_an_error_gives_way_to_a_later_decision_and_to_no_other_error(store: SqlOrderStore) -> None:
    order = _order()
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


async def test_many_concurrent_writes_all_arrive(store: SqlOrderStore) -> None:
    orders = [_order() for _ in range(500)]

    added = await asyncio.gather(*map(store.add, orders))
    recorded = await asyncio.gather(
        *(
            store.record(Decision(order.order_id, OrderStatus.SUCCESS if n % 2 else OrderStatus.OUT_OF_STOCK, None))
            for n, order in enumerate(orders)
        )
    )

    assert all(is_new for _, is_new in added)
    assert all(outcome is not None and outcome.is_new for outcome in recorded)
    assert await store.count_pending() == 0


async def test_only_due_orders_are_claimed_and_each_claim_puts_the_next_one_off(store: SqlOrderStore) -> None:
    decided, due, fresh = _order(age=100), _order(age=100), _order()
    for order in (decided, due, fresh):
        await store.add(order)
    await store.record(Decision(decided.order_id, OrderStatus.SUCCESS, None))

    first = await store.claim_unanswered(10)
    again_at_once = await store.claim_unanswered(10)

    assert [(order.order_id, order.traceparent) for order in first] == [(due.order_id, TRACEPARENT)]
    assert again_at_once == []


async def test_an_order_that_could_not_be_asked_for_is_due_at_once(store: SqlOrderStore) -> None:
    order = _order()
    await store.add(order)

    await store.ask_at_once(order.order_id)

    assert [claimed.order_id for claimed in await store.claim_unanswered(10)] == [order.order_id]


async def test_two_instances_never_claim_the_same_order(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_opened(database_url)) for _ in range(3)]
        for order in [_order(age=100) for _ in range(60)]:
            await stores[0].add(order)

        claims = await asyncio.gather(*(store.claim_unanswered(25) for store in stores for _ in range(2)))

        claimed = [order.order_id for claim in claims for order in claim]
        assert len(claimed) == len(set(claimed)) == 60


async def test_what_was_added_survives_the_end_of_its_instance(database_url: str) -> None:
    order = _order()
    async with _opened(database_url) as first:
        await first.add(order)

    async with _opened(database_url) as second:
        assert await second.get(order.order_id) == order
