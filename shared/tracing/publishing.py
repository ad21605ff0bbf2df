"""What is measured around a publish."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.contract.errors import TracedOrdersError
from shared.contract.topology import destination_template
from shared.telemetry import metrics, semconv


@contextmanager
def sending(exchange: str, routing_key: str) -> Iterator[None]:
    """Count a publish, time it until it is confirmed, and say of what it failed."""
    destination = destination_template(routing_key) or routing_key
    measured = messaging_attributes("send", f"{exchange}:{destination}" if exchange else destination)
    started = time.perf_counter()
    try:
        yield
    except TracedOrdersError as error:
        measured[semconv.ERROR_TYPE] = error.code
        raise
    finally:
        metrics.sent_messages.add(1, measured)
        metrics.operation_duration.record(time.perf_counter() - started, measured)


def messaging_attributes(operation: str, destination: str) -> dict[str, str]:
    """Give the attributes of the messaging metrics of an operation."""
    return {
        semconv.MESSAGING_SYSTEM: "rabbitmq",
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_DESTINATION_NAME: destination,
    }
