"""The metrics of the OpenTelemetry messaging conventions, once: name, unit, description, buckets.

No attribute holds an id, so the number of series does not grow with the number of messages.
"""

from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bucket bounds of the messaging conventions."""

METER_NAME = "messaging"


class Series(dict[str, Any]):
    """The attributes of a series that many records belong to: light metrics find it by a key that is made once."""

    __slots__ = ("key",)

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        super().__init__(attributes)
        self.key = frozenset(self.items())


class MessagingMetrics:
    """The four metrics of messaging clients."""

    def __init__(self, provider: metrics.MeterProvider | None, schema_url: str) -> None:
        meter = metrics.get_meter(METER_NAME, meter_provider=provider, schema_url=schema_url)
        self.operation_duration = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Time of a send until the broker has confirmed it, or of a receive until the message is there.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.process_duration = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Time from the delivery of a message until it is processed.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.sent_messages = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages handed to the client."
        )
        self.consumed_messages = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Messages delivered."
        )
