"""The metrics of the OpenTelemetry messaging conventions, once: name, unit, description, buckets.

No attribute holds an id, so the number of series does not grow with the number of messages.
"""

from opentelemetry import metrics

from . import semconv

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bucket bounds of the messaging conventions."""

_meter = metrics.get_meter("messaging", schema_url=semconv.SCHEMA_URL)

operation_duration = _meter.create_histogram(
    "messaging.client.operation.duration",
    "s",
    "Time from handing a message to the client until the broker has confirmed it.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
process_duration = _meter.create_histogram(
    "messaging.process.duration",
    "s",
    "Time from the delivery of a message until it is settled.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
sent_messages = _meter.create_counter("messaging.client.sent.messages", "{message}", "Messages handed to the client.")
consumed_messages = _meter.create_counter("messaging.client.consumed.messages", "{message}", "Messages delivered.")
