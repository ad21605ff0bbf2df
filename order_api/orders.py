"""What an order is, and the one use case: place it."""

import enum
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from shared.contract.errors import BrokerUnavailable, StoreUnavailable, Unroutable
from shared.contract.messages import Item, OrderStatus
from shared.telemetry.relations import link_current_span
from shared.telemetry.semconv import LinkReason
from shared.telemetry.trace_context import span_context_of
from shared.tracing.seams import describe_deferral, describe_order


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
    """The trace context in which the order was placed, in which it is asked again."""
    status: OrderStatus = OrderStatus.PENDING
    reason: str | None = None
    decided_at: float | None = None

    @property
    def is_decided(self) -> bool:
        """Tell whether the inventory has answered."""
        return self.status is not OrderStatus.PENDING


@dataclass(frozen=True, slots=True)
class Decision:
    """What the inventory answered for an order."""

    order_id: str
    status: OrderStatus
    reason: str | None


class ReplyKind(enum.StrEnum):
    """What a reply is to the orders here: the value of `delivery.reply`."""

    MATCHED = "matched"
    LATE = "late"
    """Nobody waits any more: the request timed out, or the relay asked."""
    DUPLICATE = "duplicate"
    """The order has its outcome already."""
    FOREIGN = "foreign"
    """No such order."""
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The order that a decision was for, and whether this decision is the one that it now has."""

    order: Order
    is_new: bool


class Outcome(enum.Enum):
    """How placing an order went."""

    NEW = enum.auto()
    REPEATED = enum.auto()
    CONFLICT = enum.auto()


@dataclass(frozen=True, slots=True)
class Placement:
    """An order as it stands after it was placed; still pending when no reply was there by the deadline."""

    order: Order
    outcome: Outcome


class OrderStore(Protocol):
    """Keeps orders; what it has added survives a crash."""

    async def add(self, order: Order) -> tuple[Order, bool]:
        """Store a pending order; gives the stored one, and whether it was new."""

    async def record(self, decision: Decision) -> Recorded | None:
        """Record a decision; None for an order that is not known here."""

    async def get(self, order_id: str) -> Order | None:
        """Find an order."""

    async def ask_at_once(self, order_id: str) -> None:
        """Let the relay ask for this order as soon as it can."""


class PendingReply(Protocol):
    """A reply that is waited for."""

    async def wait(self, deadline: float) -> Order | None:
        """Wait until a monotonic time for the decided order; None when it has not come by then."""


class Inventory(Protocol):
    """Asks the inventory, and matches its replies."""

    def expect_reply(self, order_id: str) -> AbstractContextManager[PendingReply]:
        """Register for the reply, before the question goes out."""

    async def ask(self, order: Order, timeout: float) -> None:
        """Publish the question, in `timeout` seconds; raises BrokerUnavailable or Unroutable."""


def merged(items: Sequence[Item]) -> tuple[Item, ...]:
    """Give the items in one order with one entry a SKU, so that equal orders compare equal."""
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.sku] = quantities.get(item.sku, 0) + item.quantity
    return tuple(Item(sku=sku, quantity=quantity) for sku, quantity in sorted(quantities.items()))


async def place_order(
    order: Order,
    store: OrderStore,
    inventory: Inventory,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> Placement:
    """Store an order, ask the inventory, and wait at most `timeout` seconds for the decision.

    A timeout says nothing about the outcome: the order stays pending and is asked for again. Raises StoreUnavailable when
    the order could not be stored; then it was not accepted.
    """
    deadline = clock() + timeout
    describe_order(order.order_id)
    with inventory.expect_reply(order.order_id) as reply:
        stored, is_new = await store.add(order)
        outcome = Outcome.NEW if is_new else Outcome.REPEATED
        if not is_new:
            link_current_span(span_context_of(stored.traceparent), LinkReason.DUPLICATE_OF)
        if stored.items != order.items:
            return Placement(stored, Outcome.CONFLICT)
        if stored.is_decided or (is_new and not await _ask(stored, store, inventory, deadline - clock())):
            final = stored
        else:
            final = await reply.wait(deadline) or await _read_again(stored, store)
    describe_order(final.order_id, final.status, final.reason)
    return Placement(final, outcome)


async def _ask(order: Order, store: OrderStore, inventory: Inventory, timeout: float) -> bool:
    """Ask, and tell whether a reply can be expected; if not, the relay will ask."""
    try:
        await inventory.ask(order, timeout)
    except (BrokerUnavailable, Unroutable) as error:
        describe_deferral(error, error.code)
        # Without this the relay asks too, only later: no reason to refuse an order that is stored.
        with suppress(StoreUnavailable):
            await store.ask_at_once(order.order_id)
        return False
    return True


async def _read_again(order: Order, store: OrderStore) -> Order:
    """Give an order as it stands now: its reply may have gone to another instance. As it was, when the store is away."""
    with suppress(StoreUnavailable):
        return await store.get(order.order_id) or order
    return order
