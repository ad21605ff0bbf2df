"""Every metric this system records, once: name, unit, description, buckets.

Messaging metrics follow the OpenTelemetry conventions; our own live under `orders.`. No attribute holds an id, so the number
of series does not grow with the number of orders.
"""

from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from shared.telemetry import semconv

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bucket bounds of the messaging conventions."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_meter = metrics.get_meter("traced-orders", schema_url=semconv.SCHEMA_URL)


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
queue_wait = _meter.create_histogram(
    "orders.queue_wait",
    "s",
    "Time from the publish of a message to its delivery.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
reply_wait = _meter.create_histogram(
    "orders.reply_wait",
    "s",
    "Time that a request waited for its reply.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
placed = _meter.create_counter("orders.placed", "{order}", "Orders answered over HTTP, by how the answer went.")
decided = _meter.create_counter("orders.decided", "{order}", "Orders that got their outcome, by status and reason.")
asked_again = _meter.create_counter("orders.asked_again", "{order}", "Questions that the relay repeated.")
replies = _meter.create_counter("orders.replies", "{message}", "Replies, by what they were to the orders here.")
settled = _meter.create_counter("orders.settled", "{message}", "Checks, by how they were settled and why.")
redelivered = _meter.create_counter(
    "orders.redelivered", "{message}", "Deliveries that were not the first of their message."
)
batch_size = _meter.create_histogram(
    "orders.commit.batch_size",
    "{write}",
    "Writes that shared a transaction.",
    explicit_bucket_boundaries_advisory=SIZES,
)


def observe_waiting(count: Callable[[], int]) -> None:
    """Report how many requests wait for a reply."""
    _meter.create_observable_gauge(
        "orders.waiting", [lambda _: [Observation(count())]], "{request}", "Requests that wait for a reply."
    )


def observe_lost_spans(lost: Callable[[], dict[str, int]]) -> None:
    """Report how many spans never reached the backend, by reason."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"reason": reason}) for reason, count in lost().items()]

    _meter.create_observable_counter("orders.spans.lost", [observe], "{span}", "Spans that never reached the backend.")


def reason_code(reason: str | None) -> str:
    """Give the code of a reason, without the details that would make a series of each."""
    return (reason or "none").partition(":")[0]
