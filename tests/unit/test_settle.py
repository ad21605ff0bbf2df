"""What is done with a delivery: one table."""

import pytest

from shared.contract.errors import (
    BrokerUnavailable,
    HeldTooLong,
    MalformedMessage,
    Refused,
    StoreUnavailable,
    TooManyAttempts,
    UnknownVersion,
    Unroutable,
)
from shared.contract.topology import RETRY_DELAYS
from shared.rabbit.settle import DeliveryOutcome, Settlement, settle

LAST = len(RETRY_DELAYS) - 1
ACK, RETRY, DEAD = DeliveryOutcome.ACK, DeliveryOutcome.RETRY, DeliveryOutcome.DEAD_LETTER


@pytest.mark.parametrize(
    ("error", "failures", "expected"),
    [
        (None, 0, Settlement(ACK)),
        (None, 99, Settlement(ACK)),
        (Unroutable("nobody"), 0, Settlement(ACK)),
        (Refused("full"), 0, Settlement(ACK)),
        (HeldTooLong("away for 25 minutes"), 99, Settlement(RETRY, delay=0.0)),
        (MalformedMessage("bad"), 0, Settlement(DEAD, reason="malformed")),
        (UnknownVersion("v9"), 0, Settlement(DEAD, reason="unknown_version")),
        (TooManyAttempts("16"), 0, Settlement(DEAD, reason="too_many_attempts")),
        (StoreUnavailable("locked"), 0, Settlement(RETRY, delay=RETRY_DELAYS[0])),
        (BrokerUnavailable("unconfirmed"), 1, Settlement(RETRY, delay=RETRY_DELAYS[1])),
        (ValueError("a bug"), 0, Settlement(RETRY, delay=RETRY_DELAYS[0])),
        (StoreUnavailable("locked"), LAST, Settlement(RETRY, delay=RETRY_DELAYS[LAST])),
        (StoreUnavailable("locked"), LAST + 1, Settlement(DEAD, reason="retries_exhausted")),
        (ValueError("a bug"), 99, Settlement(DEAD, reason="retries_exhausted")),
    ],
)
def test_a_delivery_is_settled_by_this_table(error: Exception | None, failures: int, expected: Settlement) -> None:
    assert settle(error, failures) == expected


def test_the_delays_grow() -> None:
    assert list(RETRY_DELAYS) == sorted(set(RETRY_DELAYS))
