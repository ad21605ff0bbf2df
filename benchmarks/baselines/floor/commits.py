"""Group commit: what is asked for while a transaction runs shares the next one. One thread, one connection."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from opentelemetry.trace import Span, SpanContext

from benchmarks.baselines.floor import spans

BUSY_BATCH = 8
GATHER_SECONDS = 0.008
"""How long what follows a batch of that size gathers: it will be large too, and each takes the GIL from the event loop."""

Write = TypeVar("Write")
Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection, Sequence[Write]], Sequence[Result]]


class GroupCommit(Generic[Write, Result]):
    """Does `work` on everything that waits in one transaction, durable once its results are there."""

    def __init__(self, name: str, file: Path, schema: str, work: Work[Write, Result]) -> None:
        self._name = name
        self._work = work
        self._waiting: list[tuple[Write, SpanContext, asyncio.Future[Result]]] = []
        self._is_busy = False
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "commits")
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {schema}")

    def add(self, write: Write, within: Span) -> asyncio.Future[Result]:
        """Have something written, and give what comes of it once that is durable."""
        done: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((write, within.get_span_context(), done))
        if not self._is_busy:
            self._is_busy = True
            # Not at once: what else comes in this turn of the loop goes along.
            self._loop.call_soon(self._begin)
        return done

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        span = spans.commit(self._name, [member for _, member, _ in batch])
        running = self._loop.run_in_executor(self._thread, self._transact, [write for write, _, _ in batch])
        running.add_done_callback(lambda done: self._end([waiter for _, _, waiter in batch], span, done))

    def _transact(self, writes: Sequence[Write]) -> Sequence[Result]:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return self._work(self._connection, writes)

    def _end(
        self, waiters: Sequence[asyncio.Future[Result]], span: Span, done: asyncio.Future[Sequence[Result]]
    ) -> None:
        span.end()
        error = done.exception()
        for waiter, result in zip(waiters, done.result() if error is None else waiters, strict=True):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(result)  # type: ignore[arg-type]
            else:
                waiter.set_exception(error)
        if len(waiters) < BUSY_BATCH:
            self._go_on()
        else:
            self._loop.call_later(GATHER_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._waiting:
            self._begin()
        else:
            self._is_busy = False
