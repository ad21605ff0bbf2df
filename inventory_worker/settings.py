"""The settings of the inventory worker, read once from its environment."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contract.messages import Identifier
from shared.service.settings import AmqpUrls, DatabaseUrl, Port

StockLevel = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


class Settings(BaseSettings):
    """What can be set from outside; see the table in the README."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    amqp_url: AmqpUrls = "amqp://guest:guest@127.0.0.1:5672/"
    database_url: DatabaseUrl = "sqlite:///var/inventory.db"
    inventory_worker_host: str = "127.0.0.1"
    inventory_worker_port: Port = 8001
    initial_stock: dict[Identifier, StockLevel] = {"widget": 1_000_000, "gadget": 3}
    order_api_key: SecretStr | None = None
    """The key of the order API guards restocking too: one key for whoever may write."""
    log_level: str = "INFO"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""
        return self.inventory_worker_host, self.inventory_worker_port
