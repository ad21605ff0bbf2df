"""What an application itself says of the delivery that it works on."""

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from . import semconv
from .open_delivery import current_delivery


def delivery_settled(outcome: str) -> None:
    """Say how the current delivery was settled, in the application's own word: `retry`, `dead_letter`."""
    if (delivery := current_delivery()) is None:
        trace.get_current_span().set_attribute(semconv.DELIVERY_OUTCOME, outcome)
    else:
        delivery.tell_outcome(outcome)


def delivery_failed(error_type: str, description: str = "") -> None:
    """Say of what the current delivery failed, in the application's own code of few values."""
    if (delivery := current_delivery()) is None:
        span = trace.get_current_span()
        span.set_attribute(semconv.ERROR_TYPE, error_type)
        span.set_status(Status(StatusCode.ERROR, description))
    else:
        delivery.tell_error(error_type, description)
