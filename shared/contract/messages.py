"""The two messages on the wire: a check that asks for stock and the decision that answers it.

Fields may be added, so unknown ones are ignored; a change that an old reader would misread gets a new version in `type`,
and a version that is not spoken here is a dead letter, never a guess.
"""

import re
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contract.errors import MalformedMessage, UnknownVersion

CONTENT_TYPE: Final = "application/json"
CHECK_TYPE: Final = "inventory.check.v1"
DECISION_TYPE: Final = "inventory.decision.v1"

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_ITEMS: Final = 50
MAX_QUANTITY: Final = 1_000_000

PUBLISHED_AT_HEADER: Final = "x-published-at-us"
"""Microseconds since the epoch: the AMQP timestamp has only seconds, too coarse for a time in queue."""
FAILURES_HEADER: Final = "x-failures"
"""How often the handling of this message has failed so far."""
DEAD_LETTER_REASON_HEADER: Final = "x-dead-letter-reason"
DEAD_LETTER_DETAIL_HEADER: Final = "x-dead-letter-detail"
DEAD_LETTER_ORIGIN_HEADER: Final = "x-dead-letter-origin"
DEAD_LETTER_ATTEMPTS_HEADER: Final = "x-dead-letter-attempts"

Identifier = Annotated[str, Field(pattern=ID_PATTERN)]


class OrderStatus(StrEnum):
    """What has become of an order; `pending` is the only one that changes."""

    PENDING = "pending"
    SUCCESS = "success"
    OUT_OF_STOCK = "out_of_stock"
    ERROR = "error"


class Item(BaseModel):
    """A quantity of one SKU."""

    model_config = ConfigDict(frozen=True)

    sku: Identifier
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """Give the body that goes on the wire."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a body; raises MalformedMessage, which names the fields at fault but repeats none of their values."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            fields = ", ".join(sorted({_location(part["loc"]) for part in error.errors()}))
            raise MalformedMessage(f"{cls.__name__} is not valid at: {fields}"[:200]) from None


class CheckInventory(_Message):
    """Ask for stock for one order: all of its items or none."""

    order_id: Identifier
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class InventoryDecision(_Message):
    """Answer a check: `success` has taken the stock, any other status has taken none."""

    order_id: Identifier
    status: OrderStatus
    reason: Annotated[str, Field(max_length=200)] | None = None


def require_type(found: str | None, expected: str) -> None:
    """Let a message of the expected type pass; raises UnknownVersion for any other."""
    if found != expected:
        raise UnknownVersion(f"expected a message of type {expected}, got {_printable(found)}")


def _location(parts: tuple[int | str, ...]) -> str:
    return ".".join(_printable(str(part)) for part in parts) or "body"


def _printable(text: str | None) -> str:
    return "none" if text is None else re.sub(r"[^\w.\-]", "?", text)[:64]
