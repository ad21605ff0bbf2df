"""The messages of the floor: a durable queue for checks, an exclusive one for replies, every publish mandatory and confirmed."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import AbstractChannel
from opentelemetry.trace import Span
from pamqp.commands import Basic

from benchmarks.baselines.floor import spans
from benchmarks.baselines.floor.spans import Destination

EXCHANGE, CHECKS = "floor", "floor.check"
REPLIES_TEMPLATE = "floor.replies.{instance}"
PUBLISH_SECONDS = 5.0
PREFETCH = 512

# As the library gives it; nothing of it is checked.
Delivery = Any
Handler = Callable[[Delivery, Span], Awaitable[None]]


class Broker:
    """Two connections, as publishers may be blocked by the broker where consumers must not be."""

    def __init__(self, url: str, publishing: AbstractChannel, consuming: AbstractChannel) -> None:
        self._address = urlsplit(url)
        self._replies: dict[str, Destination] = {}
        self._publishing = publishing
        self._consuming = consuming
        self.checks = self._destination(EXCHANGE, CHECKS, None)

    @classmethod
    async def connect(cls, url: str) -> "Broker":
        """Connect, and declare exchange and queue of the checks."""
        publishing, consuming = [await (await aiormq.connect(url)).channel() for _ in range(2)]
        await consuming.basic_qos(prefetch_count=PREFETCH)
        await consuming.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        await consuming.queue_declare(CHECKS, durable=True, arguments={"x-queue-type": "quorum"})
        await consuming.queue_bind(CHECKS, EXCHANGE, CHECKS)
        return cls(url, publishing, consuming)

    def replies(self, queue: str) -> Destination:
        """Describe a queue for replies."""
        if queue not in self._replies:
            self._replies[queue] = self._destination("", queue, REPLIES_TEMPLATE)
        return self._replies[queue]

    async def own_reply_queue(self) -> str:
        """Declare a queue that is gone with this connection."""
        queue = f"floor.replies.{uuid.uuid4().hex[:8]}"
        await self._consuming.queue_declare(queue, exclusive=True)
        return queue

    async def consume(self, source: Destination, handle: Handler) -> None:
        """Have each delivery handled within its process span and acked after that; one that fails stays unsettled."""

        async def take(message: Delivery) -> None:
            properties, delivery = message.header.properties, message.delivery
            span = spans.process(
                source,
                properties.headers or {},
                properties.message_id,
                properties.correlation_id,
                delivery.delivery_tag,
                bool(delivery.redelivered),
            )
            with span:
                await handle(message, span)
                await self._consuming.basic_ack(delivery.delivery_tag, wait=False)
                span.set_attribute("delivery.outcome", "ack")

        await self._consuming.basic_consume(source.routing_key, take)

    async def send(
        self,
        body: bytes,
        to: Destination,
        parent: Span,
        correlation_id: str,
        message_type: str,
        reply_to: str | None = None,
    ) -> None:
        """Publish a persistent message within its send span, and wait until the broker has confirmed it."""
        message_id = uuid.uuid4().hex
        span, headers = spans.send(to, parent, message_id, correlation_id)
        with span:
            await self._publishing.basic_publish(  # type: ignore[call-arg]
                body,
                exchange=to.exchange,
                routing_key=to.routing_key,
                mandatory=True,
                properties=Basic.Properties(
                    headers=headers,
                    delivery_mode=2,
                    content_type="application/json",
                    message_type=message_type,
                    message_id=message_id,
                    correlation_id=correlation_id,
                    reply_to=reply_to,
                    timestamp=datetime.now(UTC),
                ),
                timeout=PUBLISH_SECONDS,
                wait=False,  # the type does not know it: not until it has drained, but until it is confirmed
            )

    def _destination(self, exchange: str, routing_key: str, template: str | None) -> Destination:
        return Destination.of(exchange, routing_key, template, self._address.hostname or "", self._address.port or 5672)
