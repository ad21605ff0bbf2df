"""What is done with a delivery: one table."""

import pytest

from inventory_worker.settle import Settlement, settle
from shared.errors import BrokerUnavailable, MalformedMessage, StoreUnavailable, UnknownVersion, Unroutable
from shared.telemetry.semconv import DeliveryOutcome
from shared.topology import MAX_ATTEMPTS, RETRY_DELAYS

ACK, RETRY, DEAD = DeliveryOutcome.ACK, DeliveryOutcome.RETRY, DeliveryOutcome.DEAD_LETTER


@pytest.mark.parametrize(
    ("error", "attempt", "expected"),
    [
        (None, 1, Settlement(ACK)),
        (None, MAX_ATTEMPTS + 5, Settlement(ACK)),
        (Unroutable("nobody"), 1, Settlement(ACK)),
        (MalformedMessage("bad"), 1, Settlement(DEAD, reason="malformed")),
        (UnknownVersion("v9"), 1, Settlement(DEAD, reason="unknown_version")),
        (StoreUnavailable("locked"), 1, Settlement(RETRY, delay=RETRY_DELAYS[0])),
        (BrokerUnavailable("unconfirmed"), 2, Settlement(RETRY, delay=RETRY_DELAYS[1])),
        (ValueError("a bug"), 1, Settlement(RETRY, delay=RETRY_DELAYS[0])),
        (StoreUnavailable("locked"), MAX_ATTEMPTS - 1, Settlement(RETRY, delay=RETRY_DELAYS[-1])),
        (StoreUnavailable("locked"), MAX_ATTEMPTS, Settlement(DEAD, reason="retries_exhausted")),
        (ValueError("a bug"), MAX_ATTEMPTS + 1, Settlement(DEAD, reason="retries_exhausted")),
    ],
)
def test_a_delivery_is_settled_by_this_table(error: Exception | None, attempt: int, expected: Settlement) -> None:
    assert settle(error, attempt) == expected


def test_the_delays_grow() -> None:
    assert list(RETRY_DELAYS) == sorted(set(RETRY_DELAYS))
