"""The environment of processes that a test starts: this one's, without what would tell them of another broker or backend."""

import os

FOREIGN = ("OTEL_", "OPENOBSERVE_", "ALERT_", "AMQP", "RABBITMQ_", "ORDER_API")


def plain_environment(*further: str, **more: str) -> dict[str, str]:
    """Give the environment without variables of these and `further` prefixes, and with `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith((*FOREIGN, *further))} | more
