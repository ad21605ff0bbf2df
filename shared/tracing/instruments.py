"""The metrics that are about orders, once: name, unit, description, buckets; those of messaging are in `telemetry.metrics`.

They live under `orders.`. No attribute holds an id, so the number of series does not grow with the number of orders.
"""

from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from shared.telemetry import SECONDS, semconv

LONG_SECONDS = (*SECONDS, 30, 60, 300, 1800, 7200)
"""Bucket bounds for what may wait for a broker, a database or a retry."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_meter = metrics.get_meter("traced-orders", schema_url=semconv.SCHEMA_URL)


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
end_to_end = _meter.create_histogram(
    "orders.end_to_end",
    "s",
    "Time from accepting an order to its outcome, by status.",
    explicit_bucket_boundaries_advisory=LONG_SECONDS,
)
placed = _meter.create_counter("orders.placed", "{order}", "Orders answered over HTTP, by how the answer went.")
decided = _meter.create_counter("orders.decided", "{order}", "Orders that got their outcome, by status and reason.")
asked_again = _meter.create_counter("orders.asked_again", "{order}", "Checks that the relay sent again.")
replies = _meter.create_counter("orders.replies", "{message}", "Replies, by what they were to the orders here.")
replies_withheld = _meter.create_counter(
    "orders.replies_withheld",
    "{message}",
    "Decisions sent to nobody: the check named a queue that is none for replies.",
)
settled = _meter.create_counter("orders.settled", "{message}", "Checks, by how they were settled and why.")
redelivered = _meter.create_counter(
    "orders.redelivered", "{message}", "Deliveries that were not the first of their message."
)
undecodable = _meter.create_counter(
    "orders.undecodable",
    "{message}",
    "Deliveries that held no message to work with and were put aside, by queue and why.",
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


def observe_pending(latest: Callable[[], tuple[int, float] | None]) -> None:
    """Report how many orders are pending and how old the oldest is, in seconds; nothing while that is not known."""

    def part(place: int) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            found = latest()
            return [] if found is None else [Observation(found[place])]

        return observe

    _meter.create_observable_gauge("orders.pending", [part(0)], "{order}", "Orders that have no outcome yet.")
    _meter.create_observable_gauge("orders.pending.oldest", [part(1)], "s", "Age of the oldest pending order.")


def observe_lost(noun: str, lost: Callable[[], dict[str, int]]) -> None:
    """Report how many `spans`, `data points` or `log records` never reached the backend, by reason."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"reason": reason}) for reason, count in lost().items()]

    words = noun.replace(" ", "_")
    _meter.create_observable_counter(
        f"orders.{words}.lost", [observe], f"{{{words[:-1]}}}", f"{noun.capitalize()} that never reached the backend."
    )


def reason_code(reason: str | None) -> str:
    """Give the code of a reason, without the details that would make a series of each."""
    return (reason or "none").partition(":")[0]
