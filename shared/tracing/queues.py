"""What is told of the broker's queues, and of the connections to it: gauges that are read when metrics are exported."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from shared.telemetry import semconv

_meter = metrics.get_meter("traced-orders.queues", schema_url=semconv.SCHEMA_URL)

OPERATION = "operation"


@dataclass(frozen=True, slots=True)
class QueueReading:
    """A queue as the broker tells of it, or several of one kind together; None for what the broker does not tell."""

    name: str
    """Of low cardinality: the queues of all instances have one name."""
    ready: int
    consumers: int
    unacked: int | None = None
    oldest_seconds: float | None = None
    """Age of the first message in line; quorum queues do not tell."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Messages since the broker began to count, by operation: `publish`, `deliver`, `ack`, `redeliver`."""


def observe_queues(read: Callable[[], Sequence[QueueReading]]) -> None:
    """Report the queues as they were read last; nothing where somebody else reports them."""

    def gauge(name: str, unit: str, description: str, value: Callable[[QueueReading], float | None]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            found = ((reading.name, value(reading)) for reading in read())
            return [Observation(number, _of(queue)) for queue, number in found if number is not None]

        _meter.create_observable_gauge(f"orders.queue.{name}", [observe], unit, description)

    def observe_counts(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {**_of(reading.name), OPERATION: operation})
            for reading in read()
            for operation, count in reading.counts.items()
        ]

    gauge("ready", "{message}", "Messages that wait in a queue.", lambda queue: queue.ready)
    gauge("unacked", "{message}", "Messages delivered and not settled.", lambda queue: queue.unacked)
    gauge("consumers", "{consumer}", "Consumers of a queue.", lambda queue: queue.consumers)
    gauge(
        "oldest", "s", "Age of the first message in line, where the broker tells.", lambda queue: queue.oldest_seconds
    )
    _meter.create_observable_counter(
        "orders.queue.messages", [observe_counts], "{message}", "Messages by operation, as the broker counts them."
    )


def _of(queue: str) -> dict[str, str]:
    return {semconv.MESSAGING_DESTINATION_NAME: queue}


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """Whether a connection to the broker is up, and whether the broker blocks it."""

    is_up: bool
    is_blocked: bool


def observe_connections(states: Mapping[str, Callable[[], ConnectionState]]) -> None:
    """Report connections by what each is for."""

    def gauge(name: str, description: str, value: Callable[[ConnectionState], bool]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(int(value(state())), {"connection": name}) for name, state in states.items()]

        _meter.create_observable_gauge(f"orders.connection.{name}", [observe], "1", description)

    gauge("up", "1 while a connection to the broker is up.", lambda state: state.is_up)
    gauge("blocked", "1 while the broker blocks a connection.", lambda state: state.is_blocked)
