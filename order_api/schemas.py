"""The bodies of the HTTP interface: what comes in, bounded, and what goes out."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from order_api.orders import Customer, Order
from shared.contract.messages import MAX_ITEMS, MAX_QUANTITY, Identifier, Item, OrderStatus


class CustomerIn(BaseModel):
    """Who orders; stored, never traced or logged."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=64)]
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None


class ItemIn(Item):
    """A quantity of one SKU."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OrderIn(BaseModel):
    """An order to place. The same `order_id` with the same items again is the same order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"order_id": "ORDER-1", "items": [{"sku": "widget", "quantity": 2}]}]},
    )

    order_id: Annotated[Identifier, Field(description="chosen by the caller, or made here")] | None = None
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=MAX_ITEMS)]
    customer: CustomerIn | None = None

    @field_validator("items")
    @classmethod
    def _bound_each_sku(cls, items: list[ItemIn]) -> list[ItemIn]:
        quantities: Counter[str] = Counter()
        for item in items:
            quantities[item.sku] += item.quantity
        if max(quantities.values()) > MAX_QUANTITY:
            raise PydanticCustomError(
                "quantity_sum",
                "The quantities of one SKU should add up to no more than {most}",
                {"most": MAX_QUANTITY},
            )
        return items

    @property
    def id_or_new(self) -> str:
        """Give the caller's order id, or a new one."""
        return self.order_id or uuid4().hex

    def to_customer(self) -> Customer | None:
        """Give the customer as the domain knows it."""
        return None if self.customer is None else Customer(self.customer.id, self.customer.email)


class ItemOut(BaseModel):
    """A quantity of one SKU."""

    sku: str
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]


class OrderOut(BaseModel):
    """An order as it stands."""

    order_id: str
    status: OrderStatus
    reason: Annotated[str | None, Field(description="why, where the status is not `success`")] = None
    items: list[ItemOut]
    created_at: datetime
    decided_at: datetime | None = None
    trace_id: str | None = None
    trace_url: Annotated[str | None, Field(description="opens the trace where traces are kept")] = None

    @classmethod
    def of(cls, order: Order, trace_id: str | None, trace_url: str | None) -> Self:
        """Show an order; the customer is not part of it."""
        return cls(
            order_id=order.order_id,
            status=order.status,
            reason=order.reason,
            items=[ItemOut(sku=item.sku, quantity=item.quantity) for item in order.items],
            created_at=datetime.fromtimestamp(order.created_at, UTC),
            decided_at=None if order.decided_at is None else datetime.fromtimestamp(order.decided_at, UTC),
            trace_id=trace_id,
            trace_url=trace_url,
        )


class TutorialAnswer(BaseModel):
    """The short answer of `POST /orders/create`."""

    status: OrderStatus
    order_id: str
