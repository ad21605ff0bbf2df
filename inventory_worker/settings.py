"""The settings of the inventory worker, read once from its environment."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.contract.messages import MAX_MESSAGE_BYTES, Identifier
from shared.contract.topology import RETRY_DELAYS
from shared.service.settings import AmqpUrls, ApiKey, DatabaseUrl, LogLevel, MessageBytes, Port, RetentionDays
from shared.service.takes import Takes

StockLevel = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


def _read_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError('must be a JSON object, such as {"widget": 5}') from None


Stock = Annotated[
    dict[Identifier, StockLevel],
    BeforeValidator(_read_json),
    NoDecode,
    Takes("a JSON object of SKUs and whole numbers"),
]
"""A JSON object of SKUs and how many there are."""

_SEPARATED = BeforeValidator(
    lambda value: [part.strip() for part in value.split(",")] if isinstance(value, str) else value
)
RetryDelays = Annotated[
    tuple[Annotated[float, Field(ge=0.1, le=7 * 24 * 3600)], ...],
    Field(min_length=1, max_length=50),
    _SEPARATED,
    NoDecode,
    Takes("1 to 50 numbers of seconds from 0.1 to 604800, separated by commas"),
]
"""Seconds, separated by commas."""
Prefixes = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s\pC]+$")], ...],
    _SEPARATED,
    NoDecode,
    Takes("beginnings of names, separated by commas"),
]
"""Separated by commas."""


class Settings(BaseSettings):
    """What can be set from outside; see docs/configuration.md."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    amqp_url: AmqpUrls = "amqp://guest:guest@127.0.0.1:5672/"
    """The broker."""
    database_url: DatabaseUrl = "sqlite:///var/inventory.db"
    """The database of this service, and of no other."""
    inventory_worker_host: str = "127.0.0.1"
    """Address to listen on."""
    inventory_worker_port: Port = 8001
    """Port to listen on."""
    initial_stock: Stock = {"widget": 1_000_000, "gadget": 3}
    """How many there are of SKUs that were not seen before."""
    retry_delays: RetryDelays = RETRY_DELAYS
    """Seconds that a check whose handling failed waits before each next attempt; one more failure makes it a dead letter."""
    reply_queue_prefixes: Prefixes = ()
    """How further names of queues begin that a check may be replied to, beside those that are for replies by their name."""
    order_api_key: ApiKey | None = None
    """The key of the order API guards restocking too: one key for whoever may write."""
    retention_days: RetentionDays = 30.0
    """Days after its decision for which an order is remembered; an undecided one is never removed."""
    max_message_bytes: MessageBytes = MAX_MESSAGE_BYTES
    """Bytes of a body that are read from a message; a larger one is put aside unread."""
    log_level: LogLevel = "INFO"
    """Least severe level that is logged."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""
        return self.inventory_worker_host, self.inventory_worker_port
