"""The one use case, with fakes for what it needs: what is stored before what is sent, and what the caller gets when."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from order_api.orders import Decision, Order, Outcome, Placement, PlacementKind, Recorded, place_order
from shared.contract.errors import BrokerUnavailable, StoreUnavailable, TracedOrdersError
from shared.contract.messages import Item, OrderStatus

ORDER = Order("ORDER-1", (Item(sku="widget", quantity=2),), None, 1000.0, None, "placement-1")
OUTCOME = Outcome(OrderStatus.SUCCESS, None, 2.0)
DECIDED = ORDER.with_outcome(OUTCOME)


class FakeStore:
    """Keeps orders in a dictionary, or is away."""

    def __init__(self, log: list[str], *stored: Order) -> None:
        self.orders = {order.order_id: order for order in stored}
        self.is_away = False
        self._log = log

    async def add(self, order: Order) -> tuple[Order, bool]:
        self._log.append("store")
        if self.is_away:
            raise StoreUnavailable("away")
        is_new = order.order_id not in self.orders
        return self.orders.setdefault(order.order_id, order), is_new

    async def record(self, decision: Decision) -> Recorded | None:
        raise NotImplementedError

    async def get(self, order_id: str) -> Order | None:
        if self.is_away:
            raise StoreUnavailable("away")
        return self.orders.get(order_id)


class FakeReply:
    """A reply that comes when the test says so."""

    def __init__(self) -> None:
        self._reply: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

    async def wait(self, deadline: float) -> Outcome | None:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self._reply)
        except TimeoutError:
            return None

    @property
    def is_over(self) -> bool:
        return self._reply.done()

    def come(self, outcome: Outcome | None) -> None:
        self._reply.set_result(outcome)

    def give_up(self) -> None:
        self.come(None)


class FakeReplies:
    """Notes who expects a reply."""

    def __init__(self, log: list[str]) -> None:
        self.reply = FakeReply()
        self._log = log

    @contextmanager
    def expect(self, order_id: str) -> Iterator[FakeReply]:
        self._log.append(f"expect {order_id}")
        yield self.reply


class FakeChecks:
    """Notes which checks are sent, and does to each what the test says."""

    def __init__(self, log: list[str], on_send: Callable[[Callable[[TracedOrdersError], None]], None]) -> None:
        self._log = log
        self._on_send = on_send

    def start(self, order: Order, on_failure: Callable[[TracedOrdersError], None]) -> None:
        self._log.append(f"send {order.order_id}")
        self._on_send(on_failure)


async def _place(
    store: FakeStore,
    replies: FakeReplies,
    log: list[str],
    on_send: Callable[[Callable[[TracedOrdersError], None]], None] = lambda _: None,
    order: Order = ORDER,
    seconds: float = 0.05,
) -> Placement:
    deadline = asyncio.get_running_loop().time() + seconds
    return await place_order(order, store, FakeChecks(log, on_send), replies, deadline)


async def test_a_reply_is_expected_and_the_order_stored_before_its_check_is_sent() -> None:
    log: list[str] = []
    replies = FakeReplies(log)

    placement = await _place(FakeStore(log), replies, log, lambda _: replies.reply.come(OUTCOME))

    assert log == ["expect ORDER-1", "store", "send ORDER-1"]
    assert placement == Placement(DECIDED, PlacementKind.NEW)


async def test_without_a_reply_by_the_deadline_the_order_is_pending() -> None:
    log: list[str] = []

    placement = await _place(FakeStore(log), FakeReplies(log), log)

    assert placement == Placement(ORDER, PlacementKind.NEW)


async def test_an_outcome_that_another_instance_recorded_by_the_deadline_is_found() -> None:
    log: list[str] = []
    store = FakeStore(log)

    placement = await _place(store, FakeReplies(log), log, lambda _: store.orders.update({ORDER.order_id: DECIDED}))

    assert placement == Placement(DECIDED, PlacementKind.NEW)


async def test_a_check_that_cannot_be_sent_ends_the_wait_at_once() -> None:
    log: list[str] = []
    error = BrokerUnavailable("not connected")

    async with asyncio.timeout(5):
        placement = await _place(FakeStore(log), FakeReplies(log), log, lambda fail: fail(error), seconds=60)

    assert placement == Placement(ORDER, PlacementKind.NEW, deferred=error)


async def test_an_order_that_could_not_be_stored_is_not_accepted_and_its_check_not_sent() -> None:
    log: list[str] = []
    store = FakeStore(log)
    store.is_away = True

    with pytest.raises(StoreUnavailable):
        await _place(store, FakeReplies(log), log)

    assert "send ORDER-1" not in log


async def test_a_repeat_gets_the_outcome_that_there_is_and_sends_nothing() -> None:
    log: list[str] = []

    placement = await _place(FakeStore(log, DECIDED), FakeReplies(log), log)

    assert placement == Placement(DECIDED, PlacementKind.REPEATED)
    assert "send ORDER-1" not in log


async def test_a_repeat_is_answered_as_soon_as_another_instance_has_recorded_the_outcome() -> None:
    log: list[str] = []
    store = FakeStore(log, ORDER)
    loop = asyncio.get_running_loop()
    loop.call_later(0.1, store.orders.update, {ORDER.order_id: DECIDED})

    async with asyncio.timeout(10):
        placement = await _place(store, FakeReplies(log), log, seconds=60)

    assert placement == Placement(DECIDED, PlacementKind.REPEATED)
    assert "send ORDER-1" not in log


async def test_a_repeat_that_waits_when_the_process_ends_is_answered_as_the_order_stands() -> None:
    """By the deadline it would look for the outcome again and again, and hold the end up."""
    log: list[str] = []
    replies = FakeReplies(log)
    asyncio.get_running_loop().call_later(0.1, replies.reply.give_up)

    async with asyncio.timeout(10):
        placement = await _place(FakeStore(log, ORDER), replies, log, seconds=60)

    assert placement == Placement(ORDER, PlacementKind.REPEATED)


async def test_the_same_id_with_other_items_is_a_conflict_and_sends_nothing() -> None:
    log: list[str] = []
    other = replace(ORDER, items=(Item(sku="gadget", quantity=1),))

    placement = await _place(FakeStore(log, DECIDED), FakeReplies(log), log, order=other)

    assert placement == Placement(DECIDED, PlacementKind.CONFLICT)
    assert "send ORDER-1" not in log


async def test_a_store_that_goes_away_after_the_order_was_stored_costs_only_the_outcome() -> None:
    log: list[str] = []
    store = FakeStore(log)

    def go_away(_: Callable[[TracedOrdersError], None]) -> None:
        store.is_away = True

    placement = await _place(store, FakeReplies(log), log, go_away)

    assert placement == Placement(ORDER, PlacementKind.NEW)
