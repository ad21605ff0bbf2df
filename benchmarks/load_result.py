"""What a run of load measured, whatever generated it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """The figures of one run; latencies in milliseconds, of orders that were answered."""

    sent: int
    answered: int
    """Orders that were placed: answered with 200."""
    seconds: float
    """From the first order to the last answer."""
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Orders placed a second."""
        return self.answered / self.seconds

    @property
    def failed(self) -> int:
        """Orders that were answered otherwise, or not at all."""
        return self.sent - self.answered
