"""What to do with a delivery, as one pure decision; the consumer carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.contract.errors import HeldTooLong, MalformedMessage, Refused, TooManyAttempts, Unroutable
from shared.contract.topology import RETRY_DELAYS


class DeliveryOutcome(StrEnum):
    """How a delivery was settled: the value of `delivery.outcome`."""

    ACK = "ack"
    RETRY = "retry"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a delivery is to be settled."""

    outcome: DeliveryOutcome
    delay: float = 0.0
    """Seconds until the next attempt, on a retry."""
    reason: str | None = None
    """Why it is a dead letter, as a code."""


ACK = Settlement(DeliveryOutcome.ACK)
GIVEN_BACK = Settlement(DeliveryOutcome.RETRY)
"""Back into its queue, and no nearer to any limit: it was not the message that failed."""
RETRIES_EXHAUSTED = "retries_exhausted"


def settle(error: Exception | None, failures: int, retry_delays: Sequence[float] = RETRY_DELAYS) -> Settlement:
    """Decide on a delivery from what went wrong with it, if anything, and how often its message failed before.

    Poison is a dead letter at once. A reply that nobody takes, or whose queue is full, is no failure: the decision is
    recorded, and an API that still wants it asks again. Anything else may pass with time, and is retried with growing
    delays, but not for ever.
    """
    match error:
        case None | Unroutable() | Refused():
            return ACK
        case MalformedMessage() | TooManyAttempts():
            return Settlement(DeliveryOutcome.DEAD_LETTER, reason=error.code)
        case HeldTooLong():
            return GIVEN_BACK
        case _ if failures >= len(retry_delays):
            return Settlement(DeliveryOutcome.DEAD_LETTER, reason=RETRIES_EXHAUSTED)
        case _:
            return Settlement(DeliveryOutcome.RETRY, delay=retry_delays[failures])
