"""The settings of the inventory worker, read once from its environment."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.contract.messages import MAX_MESSAGE_BYTES, Identifier
from shared.contract.topology import RETRY_DELAYS
from shared.service.settings import AmqpUrls, ApiKey, DatabaseUrl, LogLevel, MessageBytes, Port, RetentionDays

StockLevel = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


def _read_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError('must be a JSON object, such as {"widget": 5}') from None


Stock = Annotated[dict[Identifier, StockLevel], BeforeValidator(_read_json), NoDecode]
"""A JSON object of SKUs and how many there are."""

_SEPARATED = BeforeValidator(
    lambda value: [part.strip() for part in value.split(",")] if isinstance(value, str) else value
)
RetryDelays = Annotated[
    tuple[Annotated[float, Field(ge=0.1, le=7 * 24 * 3600)], ...],
    Field(min_length=1, max_length=50),
    _SEPARATED,
    NoDecode,
]
"""Seconds, separated by commas."""
Prefixes = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s\pC]+$")], ...], _SEPARATED, NoDecode
]
"""Separated by commas."""


class Settings(BaseSettings):
    """What can be set from outside; see docs/configuration.md."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    amqp_url: AmqpUrls = "amqp://guest:guest@127.0.0.1:5672/"
    database_url: DatabaseUrl = "sqlite:///var/inventory.db"
    inventory_worker_host: str = "127.0.0.1"
    inventory_worker_port: Port = 8001
    initial_stock: Stock = {"widget": 1_000_000, "gadget": 3}
    retry_delays: RetryDelays = RETRY_DELAYS
    """Seconds that a check whose handling failed waits before each next attempt; one more failure makes it a dead letter."""
    reply_queue_prefixes: Prefixes = ()
    """How further names of queues begin that a check may be replied to, beside those that are for replies by their name."""
    order_api_key: ApiKey | None = None
    """The key of the order API guards restocking too: one key for whoever may write."""
    retention_days: RetentionDays = 30.0
    max_message_bytes: MessageBytes = MAX_MESSAGE_BYTES
    log_level: LogLevel = "INFO"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""
        return self.inventory_worker_host, self.inventory_worker_port
