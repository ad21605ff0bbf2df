"""What an order is, and the one use case: place it."""

import asyncio
import enum
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from shared.contract.errors import StoreUnavailable, TracedOrdersError
from shared.contract.messages import Item, OrderStatus

FIRST_LOOK, LONGEST_LOOK = 0.05, 0.5
"""Seconds between two looks for an outcome that another instance may have recorded."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who ordered: personal data, kept in the database and nowhere else."""

    id: str
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An order and what has become of it; times are seconds since the epoch."""

    order_id: str
    items: tuple[Item, ...]
    customer: Customer | None
    created_at: float
    traceparent: str | None
    """The trace context in which the order was placed, in which its check is sent again."""
    placement_id: str
    """Which placement made the order: one of its own for each, so that a repeat can be told from the first."""
    status: OrderStatus = OrderStatus.PENDING
    reason: str | None = None
    decided_at: float | None = None

    @property
    def is_decided(self) -> bool:
        """Tell whether the inventory has decided."""
        return self.status is not OrderStatus.PENDING

    def with_outcome(self, outcome: "Outcome") -> "Order":
        """Give the order as it is once it has an outcome."""
        return replace(self, status=outcome.status, reason=outcome.reason, decided_at=outcome.decided_at)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an order has come to, and when; seconds since the epoch."""

    status: OrderStatus
    reason: str | None
    decided_at: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the inventory decided on an order."""

    order_id: str
    status: OrderStatus
    reason: str | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of the order that a decision was for, and whether this decision is the one that gave it."""

    order_id: str
    outcome: Outcome
    is_new: bool


class PlacementKind(enum.StrEnum):
    """How an order was placed."""

    NEW = "new"
    REPEATED = "repeated"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Placement:
    """An order as it stands after it was placed; still pending when no reply was there by the deadline."""

    order: Order
    kind: PlacementKind
    deferred: TracedOrdersError | None = None
    """Why its check could not be sent at once, and is left to the relay."""


class OrderStore(Protocol):
    """Keeps orders; what it has added survives a crash."""

    async def add(self, order: Order) -> tuple[Order, bool]:
        """Store a pending order; gives the stored one, and whether it was new."""

    async def record(self, decision: Decision) -> Recorded | None:
        """Record a decision; None for an order that is not known here."""

    async def get(self, order_id: str) -> Order | None:
        """Find an order."""


class PendingReply(Protocol):
    """A reply that is waited for."""

    @property
    def is_over(self) -> bool:
        """Tell whether the wait has ended, with a reply or without."""

    async def wait(self, deadline: float) -> Outcome | None:
        """Wait until a time of the event loop's clock for the outcome; None when it has not come by then."""

    def give_up(self) -> None:
        """End the wait without a reply."""


class ReplyMatcher(Protocol):
    """Matches replies to those who wait for them."""

    def expect(self, order_id: str) -> AbstractContextManager[PendingReply]:
        """Register for the reply, before the check goes out."""


class CheckSender(Protocol):
    """Sends checks."""

    def start(self, order: Order, on_failure: Callable[[TracedOrdersError], None]) -> None:
        """Send the check of an order, under a deadline of its own; tells when it could not be sent."""


def merged(items: Sequence[Item]) -> tuple[Item, ...]:
    """Give the items in one order with one entry a SKU, so that equal orders compare equal."""
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.sku] = quantities.get(item.sku, 0) + item.quantity
    return tuple(Item(sku=sku, quantity=quantity) for sku, quantity in sorted(quantities.items()))


async def place_order(
    order: Order, store: OrderStore, checks: CheckSender, replies: ReplyMatcher, deadline: float
) -> Placement:
    """Store an order, send its check, and wait until `deadline`, a time of the event loop's clock, for the decision.

    A timeout says nothing about the outcome: the order stays pending. Raises StoreUnavailable when the order could not be
    stored; then it was not accepted.
    """
    with replies.expect(order.order_id) as reply:
        stored, is_new = await store.add(order)
        kind = PlacementKind.NEW if is_new else PlacementKind.REPEATED
        _log.debug("an order is stored: %s", kind, extra={"order_id": order.order_id})
        if stored.items != order.items:
            return Placement(stored, PlacementKind.CONFLICT)
        if stored.is_decided:
            return Placement(stored, kind)
        if not is_new:
            return Placement(await _wait_or_look(stored, store, reply, deadline), kind)
        deferred: list[TracedOrdersError] = []

        def defer(error: TracedOrdersError) -> None:
            deferred.append(error)
            reply.give_up()

        checks.start(stored, defer)
        outcome = await reply.wait(deadline)
        if outcome is not None:
            stored = stored.with_outcome(outcome)
        elif not deferred:
            stored = await _look(stored, store)
        return Placement(stored, kind, deferred[0] if deferred else None)


async def _wait_or_look(order: Order, store: OrderStore, reply: PendingReply, deadline: float) -> Order:
    """Wait for the outcome of an order that was placed before, perhaps through another instance, which gets the reply."""
    loop, pause = asyncio.get_running_loop(), FIRST_LOOK
    while not (order.is_decided or reply.is_over or (now := loop.time()) >= deadline):
        outcome = await reply.wait(min(now + pause, deadline))
        order = order.with_outcome(outcome) if outcome else await _look(order, store)
        pause = min(pause * 2, LONGEST_LOOK)
    if reply.is_over and not order.is_decided:
        # It came during the last look.
        outcome = await reply.wait(loop.time())
        order = order.with_outcome(outcome) if outcome else order
    return order


async def _look(order: Order, store: OrderStore) -> Order:
    """Give an order as it stands now: its reply may have gone to another instance. As it was, when the store is away."""
    with suppress(StoreUnavailable):
        return await store.get(order.order_id) or order
    return order
