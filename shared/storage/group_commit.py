"""The group commit: concurrent writes share a transaction, in bounded batches and after a bounded wait."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Self, TypeVar

from opentelemetry.trace import SpanContext
from sqlalchemy import Connection

from shared.contract.errors import (
    CommitUnknown,
    Fatal,
    Overloaded,
    StoreUnavailable,
    TracedOrdersError,
    WriteFailed,
    first_line,
)
from shared.storage.database import Database
from shared.storage.waiters import fail_all
from shared.tracing.commits import committing, described, waiting_span

MAX_BATCH = 128
"""Writes in one transaction: enough to share one fsync, and no more than a span keeps links by default."""
MAX_WAITING = 2048
"""Writes that wait at a time: some sixteen transactions."""
BUSY_BATCH = 8
"""Writes in a transaction from which on the next one may gather: it will have company, too."""
GATHER_SECONDS = 0.008
"""How long it gathers. Each transaction, whatever its size, takes the GIL from the event loop a dozen times."""
MAX_WAIT_SECONDS = 3.0
"""Longest wait for a transaction: less than callers wait by default, so that they hear that they were refused."""

_log = logging.getLogger(__name__)

Write = TypeVar("Write")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Write, Result]):
    write: Write
    done: asyncio.Future[Result]
    span: SpanContext = field(default_factory=waiting_span)


class GroupCommit(Generic[Write, Result]):
    """Lets concurrent writes share a transaction: while one commits, the next batch gathers, and for a moment longer where
    there are many; a write that comes alone never waits for company.

    `apply` carries out a batch inside a transaction, more than once where that has failed, and gives one result a write, in
    order. A batch that fails on one of its members is done again one by one. `statements` is what is told of it in traces.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        apply: Callable[[Connection, Sequence[Write]], Sequence[Result]],
        statements: str = "",
    ) -> None:
        self._database = database
        self._name = name
        self._apply = apply
        self._described = described(name, database.attributes, statements)
        self._waiting: dict[_Waiting[Write, Result], None] = {}
        """In their order. What has left it is in a transaction, and can no longer be withdrawn."""
        self._batch: list[_Waiting[Write, Result]] = []
        self._wake = asyncio.Event()
        self._refusal: str | None = None
        """Why no more writes are taken."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Commit while the context lasts, and at its end what is still waiting.

        A committer that ends before fails all who wait for it, and tells the event loop so with a Fatal.
        """
        committer = asyncio.create_task(self._run(), name=self._name)
        committer.add_done_callback(self._on_end)
        try:
            yield self
        finally:
            self._refusal = self._refusal or f"{self._name} is closing"
            self._wake.set()
            await asyncio.wait([committer])

    async def submit(self, write: Write) -> Result:
        """Have a write committed; cancelled before its transaction begins, it is withdrawn, and after that it goes on.

        Raises StoreUnavailable where it was not made: the database is away, or, as Overloaded, too many wait or it has waited
        too long. Raises CommitUnknown where it may have been made, and WriteFailed where it fails while others succeed.
        """
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{len(self._waiting)} writes wait for the database already")
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Write, Result](write, loop.create_future())
        self._waiting[waiting] = None
        self._wake.set()
        giving_up = loop.call_later(MAX_WAIT_SECONDS, self._withdraw, waiting)
        try:
            return await waiting.done
        finally:
            giving_up.cancel()
            self._waiting.pop(waiting, None)

    def _withdraw(self, waiting: _Waiting[Write, Result]) -> None:
        if waiting in self._waiting:
            del self._waiting[waiting]
            _fail([waiting], Overloaded, f"the database did not get to a write within {MAX_WAIT_SECONDS:.0f} s")

    async def _run(self) -> None:
        while self._refusal is None or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._batch = list(islice(self._waiting, MAX_BATCH))
                for member in self._batch:
                    del self._waiting[member]
                await self._commit(self._batch)
                is_busy, self._batch = len(self._batch) >= BUSY_BATCH, []
                if is_busy and len(self._waiting) < MAX_BATCH and self._refusal is None:
                    await asyncio.sleep(GATHER_SECONDS)

    async def _commit(self, batch: Sequence[_Waiting[Write, Result]]) -> None:
        # A caller that has given up must not find its write done after all.
        batch = [member for member in batch if not member.done.done()]
        if not batch:
            return
        try:
            with committing(self._described, [member.span for member in batch]):
                results = await self._database.write(lambda connection: self._apply_all(connection, batch))
        except StoreUnavailable as error:
            _fail(batch, type(error), str(error))
        except Exception as error:
            if len(batch) == 1:
                _log.exception("%s failed", self._name)
                _fail(batch, WriteFailed, first_line(error))
            else:
                await self._commit_one_by_one(batch)
        else:
            for member, result in zip(batch, results, strict=True):
                if not member.done.done():
                    member.done.set_result(result)

    def _apply_all(self, connection: Connection, batch: Sequence[_Waiting[Write, Result]]) -> Sequence[Result]:
        results = self._apply(connection, [member.write for member in batch])
        if len(results) != len(batch):
            # Inside the transaction, which it undoes: after it, nobody would know whose results these are.
            raise RuntimeError(f"{len(results)} results for {len(batch)} writes")
        return results

    async def _commit_one_by_one(self, batch: Sequence[_Waiting[Write, Result]]) -> None:
        loop = asyncio.get_running_loop()
        last_begin = loop.time() + MAX_WAIT_SECONDS
        for number, member in enumerate(batch):
            if loop.time() > last_begin:
                _fail(batch[number:], Overloaded, "the database is too slow to try the writes of a failed batch alone")
                break
            await self._commit([member])

    def _on_end(self, committer: asyncio.Task[None]) -> None:
        error = None if committer.cancelled() else committer.exception()
        if error is None and not committer.cancelled():
            return
        self._refusal = f"{self._name} has ended"
        _log.error(self._refusal, exc_info=error)
        _fail(self._batch, CommitUnknown, self._refusal)
        _fail(self._waiting, StoreUnavailable, self._refusal)
        context = {"message": self._refusal, "exception": Fatal(self._refusal), "task": committer}
        committer.get_loop().call_exception_handler(context)


def _fail(members: Iterable[_Waiting[Any, Any]], kind: type[TracedOrdersError], text: str) -> None:
    fail_all((member.done for member in members), kind, text)
