"""Every metric this system records, once: name, unit, description, buckets.

Messaging metrics follow the OpenTelemetry conventions; our own live under `orders.`. No attribute holds an id, so the number
of series does not grow with the number of orders.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from shared.telemetry import semconv
from shared.telemetry.histograms import Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bucket bounds of the messaging conventions."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_meter = metrics.get_meter("traced-orders", schema_url=semconv.SCHEMA_URL)


class Counter:
    """A counter that is read when metrics are exported.

    The SDK's own looks its series up, and takes a lock, for each count. A count here is an addition.
    """

    def __init__(self, name: str, unit: str, description: str) -> None:
        self._counts: Counts[tuple[tuple[str, str], ...]] = Counts()
        _meter.create_observable_counter(name, [self._observe], unit, description)

    def add(self, amount: int, attributes: Mapping[str, str] | None = None) -> None:
        """Count; on the event loop only, since two threads could lose one of two counts."""
        self._counts[tuple(attributes.items()) if attributes else ()] += amount

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, dict(series)) for series, count in self._counts.copy().items()]


operation_duration = Histogram(
    "messaging.client.operation.duration",
    "s",
    "Time from handing a message to the client until the broker has confirmed it.",
    SECONDS,
)
process_duration = Histogram(
    "messaging.process.duration",
    "s",
    "Time from the delivery of a message until it is settled.",
    SECONDS,
)
sent_messages = Counter("messaging.client.sent.messages", "{message}", "Messages handed to the client.")
consumed_messages = Counter("messaging.client.consumed.messages", "{message}", "Messages delivered.")
queue_wait = Histogram(
    "orders.queue_wait",
    "s",
    "Time from the publish of a message to its delivery.",
    SECONDS,
)
reply_wait = Histogram(
    "orders.reply_wait",
    "s",
    "Time that a request waited for its reply.",
    SECONDS,
)
placed = Counter("orders.placed", "{order}", "Orders answered over HTTP, by how the answer went.")
decided = Counter("orders.decided", "{order}", "Orders that got their outcome, by status and reason.")
asked_again = Counter("orders.asked_again", "{order}", "Questions that the relay repeated.")
replies = Counter("orders.replies", "{message}", "Replies, by what they were to the orders here.")
settled = Counter("orders.settled", "{message}", "Checks, by how they were settled and why.")
redelivered = Counter("orders.redelivered", "{message}", "Deliveries that were not the first of their message.")
batch_size = Histogram(
    "orders.commit.batch_size",
    "{write}",
    "Writes that shared a transaction.",
    SIZES,
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
