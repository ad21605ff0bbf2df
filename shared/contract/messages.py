"""The messages on the wire: a check that asks for stock, the decision that answers it, the word that it will take longer.

Fields may be added, so unknown ones are ignored; a change that an old reader would misread gets a new version in `type`,
and a version that is not spoken here is a dead letter, never a guess.
"""

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contract.errors import MalformedMessage, UnknownVersion

CHECK_TYPE: Final = "inventory.check.v1"
DECISION_TYPE: Final = "inventory.decision.v1"
DELAY_TYPE: Final = "inventory.delay.v1"

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_MESSAGE_BYTES: Final = 1 << 20
"""Of a body that is read, unless set otherwise: the largest check has some 5 kB."""
MAX_ITEMS: Final = 50
MAX_QUANTITY: Final = 1_000_000

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

    TYPE: ClassVar = CHECK_TYPE

    order_id: Identifier
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class InventoryDecision(_Message):
    """Answer a check: `success` has taken the stock, any other status has taken none."""

    TYPE: ClassVar = DECISION_TYPE

    order_id: Identifier
    status: OrderStatus
    reason: Annotated[str, Field(max_length=200)] | None = None


class CheckDelayed(_Message):
    """Tell the asker that a check has failed, or may have ended its worker, and is tried again: it is not lost, nor decided."""

    TYPE: ClassVar = DELAY_TYPE

    order_id: Identifier
    seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600, allow_inf_nan=False)]
    """Until the next attempt, at most."""


def require_type(found: str | None, expected: str) -> None:
    """Let a message of the expected type pass; raises UnknownVersion for any other."""
    if found != expected:
        raise UnknownVersion(f"expected a message of type {expected}, got {_printable(found)}")


def _location(parts: tuple[int | str, ...]) -> str:
    return ".".join(_printable(str(part)) for part in parts) or "body"


def _printable(text: str | None) -> str:
    return "none" if text is None else re.sub(r"[^\w.\-]", "?", text)[:64]
