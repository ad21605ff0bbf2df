"""What becomes of a signal's telemetry on its way to the backend: counted always, and said once, not once a batch."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

QUEUE_FULL, BUFFER_FULL, EXPORT_FAILED, REJECTED, STOPPED = REASONS = (
    "queue_full",  # dropped before they were encoded: the processor's queue had no room
    "buffer_full",  # dropped, the oldest first, while they waited for the backend
    "export_failed",  # refused for good with all of their batch
    "rejected",  # refused within a batch that was taken
    "stopped",  # still waiting when the process ended
)
QUIET_SECONDS = 10.0
"""Nothing may fail for so long until trouble is said to be over: a backend that comes and goes is said once in a while."""

_log = logging.getLogger(__name__)


class Account:
    """The losses of one signal, and the trouble that it is in: from what first fails until all that waited is delivered.

    Safe for threads: the application's, the sender's, and the one that collects metrics.
    """

    def __init__(
        self,
        noun: str,
        address: str,
        quiet_seconds: float = QUIET_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.noun = noun
        self.address = address
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._lost = Counter(dict.fromkeys(REASONS, 0))
        self._said: set[object] = set()
        self._lost_before = 0
        self._delivered = 0
        self._failed_at = 0.0

    @property
    def is_in_trouble(self) -> bool:
        """Whether something has failed, and is not yet said to be over."""
        return bool(self._said)

    def by_reason(self) -> dict[str, int]:
        """Give the losses so far, with a zero for what has not happened."""
        with self._lock:
            return dict(self._lost)

    def on_failed(self, kind: object, cause: str) -> None:
        """Note an attempt that will be repeated; said once for each kind of failure."""
        self._note(kind, f"does not take {self.noun}: {cause}; they wait until it does")

    def on_refused(self, kind: object, cause: str, count: int) -> None:
        """Count what the backend refused for good."""
        self._note(kind, f"does not take {self.noun}: {cause}; they are lost", EXPORT_FAILED, count)

    def on_rejected(self, cause: str, count: int) -> None:
        """Count what the backend refused within a batch that it took."""
        self._note(REJECTED, f"refuses {self.noun}: {cause}", REJECTED, count)

    def on_overflow(self, reason: str, room: str, count: int) -> None:
        """Count what there was no room for."""
        self._note(reason, f"gets less than there is: {room} is full, {self.noun} are dropped", reason, count)

    def on_stopped(self, count: int) -> None:
        """Count what waited in vain."""
        self._note(STOPPED, f"has not taken the last {count} {self.noun}: they are lost", STOPPED, count)

    def on_delivered(self, count: int) -> None:
        """Note a delivery."""
        with self._lock:
            self._delivered += count

    def settle(self) -> None:
        """Say that trouble is over, if it has been quiet for long enough; to be called while nothing waits."""
        with self._lock:
            if not self._said or self._clock() - self._failed_at < self._quiet_seconds:
                return
            self._said.clear()
            lost, delivered = self._lost.total() - self._lost_before, self._delivered
        _log.warning(
            "the telemetry backend at %s takes %s again, after %d were lost; %d that waited or came since are there",
            self.address,
            self.noun,
            lost,
            delivered,
        )

    def _note(self, kind: object, what: str, reason: str | None = None, count: int = 0) -> None:
        with self._lock:
            if not self._said:
                self._lost_before, self._delivered = self._lost.total(), 0
            is_new = kind not in self._said
            self._said.add(kind)
            self._failed_at = self._clock()
            if reason is not None:
                self._lost[reason] += count
        if is_new:
            _log.warning("the telemetry backend at %s %s", self.address, what)
