"""The settings of the order API, read once from its environment."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contract.messages import MAX_MESSAGE_BYTES, Identifier
from shared.service.settings import AmqpUrls, ApiKey, DatabaseUrl, LogLevel, MessageBytes, Port, RetentionDays


class Settings(BaseSettings):
    """What can be set from outside; see docs/configuration.md."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    amqp_url: AmqpUrls = "amqp://guest:guest@127.0.0.1:5672/"
    database_url: DatabaseUrl = "sqlite:///var/orders.db"
    order_api_host: str = "127.0.0.1"
    order_api_port: Port = 8000
    reply_timeout: Annotated[float, Field(gt=0, le=300)] = 5.0
    default_sku: Identifier = "widget"
    order_api_key: ApiKey | None = None
    retention_days: RetentionDays = 30.0
    max_message_bytes: MessageBytes = MAX_MESSAGE_BYTES
    rabbitmq_management_url: str | None = None
    """Where the broker tells of its queues, if that is not 10,000 ports above AMQP."""
    log_level: LogLevel = "INFO"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""
        return self.order_api_host, self.order_api_port
