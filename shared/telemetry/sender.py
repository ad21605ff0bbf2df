"""Sends the batches of one signal in order, on a thread of its own; what cannot be sent waits in bounded memory.

The official exporters give a batch up after ten seconds, and block the processor's thread for as long, whose queue then
overflows. Here an export is a hand-over, and a backend that is away for minutes costs patience.
"""

import random
import threading
import time
from collections.abc import Callable

from opentelemetry.instrumentation.utils import suppress_instrumentation

from .account import BUFFER_FULL, Account
from .buffer import Batch, Buffer, batch_of
from .otlp_response import Attempt, Fate

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between attempts, doubled from one to the next and cut by up to a half at random: many services share a backend."""
LONGEST_RETRY_AFTER = 60.0
PATIENCE = 5
"""Attempts at a batch, all failed of what may be the batch itself, until others are tried before it."""
FLUSH_SECONDS = 5.0
_LOOK_SECONDS = 1.0
"""How often an idle sender looks whether trouble is over."""


class Sender:
    """The thread that empties a buffer, started by the first batch; `send` makes one attempt with a compressed body."""

    def __init__(self, send: Callable[[bytes], Attempt], account: Account, buffer: Buffer) -> None:
        self.account = account
        self._send = send
        self._buffer = buffer
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._delivered = 0
        self._resume_at = 0.0
        self._is_busy = False
        """Whether a batch is being sent, or what became of it is being counted."""
        self._is_ending = False
        self._has_ended = False

    @property
    def batch_size(self) -> int:
        """The most items that it sends in one request of several batches."""
        return self._buffer.most

    def put(self, request: bytes, count: int) -> None:
        """Take over an encoded export request of so many items; returns at once."""
        batch = batch_of(request, count)
        with self._changed:
            has_ended = self._has_ended
            dropped = 0 if has_ended else self._buffer.put(batch)
            if self._thread is None and not has_ended:
                self._thread = threading.Thread(target=self._run, name=f"telemetry {self.account.noun}", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self._tell_overflow(dropped)
        if has_ended:
            self.account.on_stopped(count)

    def flush(self, within: float) -> bool:
        """Wait until all is sent, for at most so many seconds; tells whether it is."""
        with self._changed:
            return self._changed.wait_for(self._is_done, within)

    def end(self, within: float = FLUSH_SECONDS) -> None:
        """Send what waits until a first attempt fails, or so many seconds are over; what is left is counted and given up."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_done() or self._has_ended, within)
            self._has_ended = True
            self._changed.notify_all()
            left = self._buffer.clear()
        if left:
            self.account.on_stopped(left)

    def _is_done(self) -> bool:
        return self._buffer.is_empty and not self._is_busy

    def _run(self) -> None:
        with suppress_instrumentation():
            while (batch := self._next()) is not None:
                was_ending = self._is_ending
                attempt = self._send(batch.body)
                with self._changed:
                    if not self._buffer.holds(batch):
                        continue  # given up and counted, as the end came meanwhile
                    given_up, dropped = self._settle(batch, attempt)
                self._tell(batch, attempt, given_up)
                self._tell_overflow(dropped)
                with self._changed:
                    self._is_busy = False
                    self._has_ended |= was_ending and attempt.fate is Fate.WAITS
                    self._changed.notify_all()

    def _next(self) -> Batch | None:
        """Wait for the next batch that may be sent; None at the end."""
        while True:
            with self._changed:
                if self._has_ended or (self._is_ending and not self._buffer.has_more):
                    return None
                pause = 0.0 if self._is_ending else self._resume_at - time.monotonic()
                if self._buffer.has_more and pause <= 0:
                    self._is_busy = True
                    return self._buffer.take()
                is_idle = not self._buffer.has_more
                look = _LOOK_SECONDS if self.account.is_in_trouble else None
                self._changed.wait(look if is_idle else pause)
            if is_idle:
                self.account.settle()

    def _settle(self, batch: Batch, attempt: Attempt) -> tuple[bool, int]:
        """Take a batch off, or put it back; tells whether it is given up, and the count of what there is no room for now."""
        if attempt.fate is not Fate.WAITS:
            self._failures = 0
            self._delivered += attempt.fate is Fate.DELIVERED
            self._buffer.done()
            return False, 0
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures) * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures = min(self._failures + 1, 10)
        self._resume_at = time.monotonic() + max(pause, min(attempt.retry_after or 0.0, LONGEST_RETRY_AFTER))
        batch.suspicions += attempt.may_be_the_batch
        is_passed_over = batch.suspicions >= PATIENCE
        if is_passed_over and batch.passed_over_at not in {None, self._delivered}:
            self._buffer.done()  # the backend takes others and fails at this one
            return True, 0
        if is_passed_over:
            batch.suspicions, batch.passed_over_at = 0, self._delivered
        return False, self._buffer.put_back(is_last=is_passed_over)

    def _tell(self, batch: Batch, attempt: Attempt, given_up: bool) -> None:
        if attempt.fate is Fate.DELIVERED:
            self.account.on_delivered(batch.count - attempt.rejected)
            if attempt.rejected:
                self.account.on_rejected(attempt.cause, attempt.rejected)
        elif given_up or attempt.fate is Fate.REFUSED:
            self.account.on_refused(attempt.status, attempt.cause, batch.count)
        else:
            self.account.on_failed(attempt.status, attempt.cause)

    def _tell_overflow(self, dropped: int) -> None:
        if dropped:
            self.account.on_overflow(BUFFER_FULL, f"the buffer of {self._buffer.limit / 1e6:g} MB", dropped)
