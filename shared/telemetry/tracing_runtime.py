"""What every wrapper around the client needs: the tracer, the metrics, and what they say about a destination."""

from typing import Any

from aio_pika import Exchange, Queue
from aio_pika.abc import AbstractIncomingMessage, AbstractMessage

from .conventional_tracer import ConventionalTracer
from .destinations import Described, Destination, DestinationNames
from .exchange_types import ExchangeTypes
from .metrics import MessagingMetrics
from .open_delivery import OpenDelivery
from .unsettled import Unsettled

AMQP_PORT = 5672


class TracingRuntime:
    """Describes sends and deliveries, and begins the latter."""

    def __init__(self, tracer: ConventionalTracer, metrics: MessagingMetrics, names: DestinationNames) -> None:
        self.tracer = tracer
        self.metrics = metrics
        self.exchange_types = ExchangeTypes()
        self.unsettled = Unsettled()
        self._names = names

    def describe_send(self, exchange: Exchange, routing_key: str) -> Described:
        """Say what is written about a send."""
        name = exchange.name or ""
        return self._names.describe(
            Destination("send", name, routing_key, None, self.exchange_types.of(name)), *_server_of(exchange.channel)
        )

    def describe_delivery(
        self, queue: Queue, message: AbstractIncomingMessage, operation: str = "process"
    ) -> Described:
        """Say what is written about a delivery from a queue."""
        exchange = message.exchange or ""
        return self._names.describe(
            Destination(
                operation,
                exchange,
                message.routing_key or "",
                queue.name,
                self.exchange_types.of(exchange),
                bool(queue.exclusive),
            ),
            *_server_of(queue.channel),
        )

    def delivered(self, queue: Queue, message: AbstractIncomingMessage, operation: str = "process") -> OpenDelivery:
        """Begin a delivery."""
        described = self.describe_delivery(queue, message, operation)
        return OpenDelivery(described, self.metrics, no_ack=message.processed)

    def count(self, delivery: OpenDelivery) -> None:
        """Count a delivery."""
        self.metrics.consumed_messages.add(1, delivery.described.series)


def delivery_of(message: AbstractMessage) -> OpenDelivery | None:
    """Give the delivery of a message; None for one that came before anything was traced."""
    return getattr(message, "_delivery", None)


def _server_of(channel: Any) -> tuple[str, int]:
    connection = getattr(channel, "_connection", None)
    url = getattr(connection, "url", None)
    return ("", AMQP_PORT) if url is None else (url.host or "", url.port or AMQP_PORT)
