"""What the receiver is told when it starts."""

from dataclasses import dataclass, field
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """Where to listen, who may write and read, and the bounds on memory (sizes in bytes)."""

    user: str
    password: str = field(repr=False)
    host: str = "127.0.0.1"
    max_body: int = 16 * 2**20
    max_spans: int = 200_000
    max_trace_bytes: int = 256 * 2**20
    max_logs: int = 50_000
    max_log_bytes: int = 64 * 2**20
    max_series: int = 2_000
    max_live: int = 32
    """Pages that are kept up to date at the same time."""
    order_api_url: str | None = None
    """Where the page's form places orders; without it there is no form."""
    order_api_key: str | None = field(default=None, repr=False)
    amqp_url: str | None = field(default=None, repr=False)
    """The broker whose dead letters are shown; without it there is no such page."""
    order_seconds: float = 20.0
    """How long the form waits for the order API."""

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
