"""The settings of the order API, read once from its environment."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contract.messages import MAX_MESSAGE_BYTES, Identifier
from shared.service.settings import AmqpUrls, ApiKey, DatabaseUrl, LogLevel, MessageBytes, Port, RetentionDays
from shared.service.telemetry_settings import Address


class Settings(BaseSettings):
    """What can be set from outside; see docs/configuration.md."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    amqp_url: AmqpUrls = "amqp://guest:guest@127.0.0.1:5672/"
    """The broker."""
    database_url: DatabaseUrl = "sqlite:///var/orders.db"
    """The database of this service, and of no other."""
    order_api_host: str = "127.0.0.1"
    """Address to listen on."""
    order_api_port: Port = 8000
    """Port to listen on."""
    reply_timeout: Annotated[float, Field(gt=0, le=300)] = 5.0
    """Seconds that an HTTP call waits for the reply of the worker before it is answered 202."""
    default_sku: Identifier = "widget"
    """What `POST /orders/create` orders one of."""
    order_api_key: ApiKey | None = None
    """The key that calls must send which write; without one they are open, which is for loopback only."""
    retention_days: RetentionDays = 30.0
    """Days after its decision for which an order is remembered; an undecided one is never removed."""
    max_message_bytes: MessageBytes = MAX_MESSAGE_BYTES
    """Bytes of a body that are read from a message; a larger one is put aside unread."""
    rabbitmq_management_url: Address | None = None
    """Where the broker tells of its queues; by default 10,000 ports above AMQP, where the broker is on this machine."""
    log_level: LogLevel = "INFO"
    """Least severe level that is logged."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""
        return self.order_api_host, self.order_api_port
