"""The batches that wait to be sent: encoded, compressed, in order and bounded. Not safe for threads: the sender guards it."""

import gzip
from collections import deque
from dataclasses import dataclass

_LEVEL = 1
"""Of gzip: 3 us a span for a seventh of the bytes; the higher levels take twice as long for another twentieth."""


@dataclass(slots=True)
class Batch:
    """An export request of so many spans, log records or data points."""

    body: bytes
    count: int
    suspicions: int = 0
    """Attempts that failed of what may be the batch itself."""
    passed_over_at: int | None = None
    """How many batches had been delivered when others were tried before it."""

    @property
    def is_suspect(self) -> bool:
        """Whether it is better sent alone."""
        return self.suspicions > 0 or self.passed_over_at is not None


def batch_of(request: bytes, count: int) -> Batch:
    """Compress an export request."""
    return Batch(gzip.compress(request, _LEVEL, mtime=0), count)


class Buffer:
    """Batches in the order in which they are to be sent.

    `limit` is in compressed bytes, what is being sent included. `most` is the count up to which batches that wait are sent as
    one, so that a backend which is slow to answer is sent more at a time.
    """

    def __init__(self, limit: float, most: int) -> None:
        self.limit = limit
        self.most = most
        self._waiting: deque[Batch] = deque()
        self._taken: Batch | None = None
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is being sent."""
        return not self._waiting and self._taken is None

    @property
    def has_more(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def put(self, batch: Batch) -> int:
        """Append a batch; gives the count of what is dropped, the oldest first, as there is no room for it."""
        self._waiting.append(batch)
        self._size += len(batch.body)
        return self._drop_beyond_limit()

    def take(self) -> Batch:
        """Give the first batch, or the first few as one; it goes on taking room until it is put back or done with."""
        taken = [self._waiting.popleft()]
        count = taken[0].count
        while self._waiting and count + self._waiting[0].count <= self.most:
            if taken[0].is_suspect or self._waiting[0].is_suspect:
                break
            taken.append(self._waiting.popleft())
            count += taken[-1].count
        self._taken = taken[0] if len(taken) == 1 else _merged(taken, count)
        self._size += len(self._taken.body) - sum(len(batch.body) for batch in taken)
        return self._taken

    def holds(self, batch: Batch) -> bool:
        """Tell whether a batch is the one that was taken, and not given up meanwhile."""
        return self._taken is batch

    def done(self) -> None:
        """Let the batch go that was taken."""
        if self._taken is not None:
            self._size -= len(self._taken.body)
            self._taken = None

    def put_back(self, is_last: bool) -> int:
        """Put the batch that was taken back, before all others or after them; gives the count of what is dropped."""
        if self._taken is not None:
            (self._waiting.append if is_last else self._waiting.appendleft)(self._taken)
            self._taken = None
        return self._drop_beyond_limit()

    def clear(self) -> int:
        """Empty it, and give the count of what was there."""
        left = [*self._waiting, *([] if self._taken is None else [self._taken])]
        self._waiting.clear()
        self._taken = None
        self._size = 0
        return sum(batch.count for batch in left)

    def _drop_beyond_limit(self) -> int:
        dropped = 0
        while self._size > self.limit and self._waiting:
            oldest = self._waiting.popleft()
            self._size -= len(oldest.body)
            dropped += oldest.count
        return dropped


def _merged(batches: list[Batch], count: int) -> Batch:
    """Make one request of several: all of them are one repeated field, and such messages are merged by being joined."""
    return batch_of(b"".join([gzip.decompress(batch.body) for batch in batches]), count)
