"""A database behind a service: SQLite in one file or PostgreSQL, with writes grouped into shared transactions."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext
from sqlalchemy import MetaData, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.errors import StoreUnavailable, first_line
from shared.telemetry import metrics, semconv
from shared.telemetry.semconv import LinkReason

LOCK_SECONDS = 2.0
"""Longest wait for another process to let go of the SQLite file."""
MAX_BATCH = 256
"""Writes in one transaction: enough to share one fsync, few enough to keep the wait behind it short."""

_PREPARE_LOCK = 0x74726163
"""Any number that no other application locks on in the same PostgreSQL database."""

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)

Write = TypeVar("Write")
Result = TypeVar("Result")


class Database:
    """The engines of one service: `writer` for transactions that write, `reader` for everything else."""

    def __init__(
        self, url: str, metadata: MetaData, fill: Callable[[AsyncConnection], Awaitable[None]] | None = None
    ) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            parsed = parsed.set(drivername="sqlite+aiosqlite")
            self.writer = _sqlite_engine(parsed, begin="BEGIN IMMEDIATE", pool_size=1)
            self.reader = _sqlite_engine(parsed, begin="BEGIN", pool_size=4)
        else:
            parsed = parsed.set(drivername="postgresql+asyncpg")
            self.writer = self.reader = create_async_engine(
                parsed,
                pool_size=5,
                max_overflow=0,
                pool_timeout=LOCK_SECONDS,
                pool_pre_ping=True,
                connect_args={"timeout": 5},
            )
        self._metadata = metadata
        self._fill = fill
        self._is_prepared = False

    async def prepare(self) -> None:
        """Create the tables that are missing and fill them, once; raises StoreUnavailable when the database is away."""
        if self._is_prepared:
            return
        with translated_errors():
            async with self.writer.begin() as connection:
                if connection.dialect.name == "postgresql":
                    # Two instances that start together would both create what both found missing.
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PREPARE_LOCK})
                await connection.run_sync(self._metadata.create_all)
                if self._fill is not None:
                    await self._fill(connection)
        self._is_prepared = True

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes; raises StoreUnavailable when the database is away or locked."""
        await self.prepare()
        with translated_errors():
            async with self.writer.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Prepare the database, where it is there already, and close every connection at the end."""
        try:
            await self.prepare()
        except StoreUnavailable as error:
            _log.warning("the database is not available yet: %s", error)
        try:
            yield self
        finally:
            await self.writer.dispose()
            await self.reader.dispose()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection that only reads; raises StoreUnavailable when the database is away."""
        await self.prepare()
        with translated_errors():
            async with self.reader.connect() as connection:
                yield connection

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))


def insert_for(bound: AsyncEngine | AsyncConnection) -> Any:
    """Give the INSERT of the database's own dialect, which knows ON CONFLICT."""
    return (sqlite if bound.dialect.name == "sqlite" else postgresql).insert


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what drivers raise when a database is away, locked or slow into StoreUnavailable; a bug stays what it is."""
    try:
        yield
    except (DataError, IntegrityError, NotSupportedError, ProgrammingError):
        raise
    except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
        raise StoreUnavailable(first_line(error)) from error


def _sqlite_engine(url: Any, *, begin: str, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, connect_args={"timeout": LOCK_SECONDS})

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Without it the driver begins transactions by itself, and late: two writers could then only deadlock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


@dataclass(slots=True)
class _Waiting(Generic[Write, Result]):
    write: Write
    done: asyncio.Future[Result]
    span: SpanContext = field(default_factory=lambda: trace.get_current_span().get_span_context())


class GroupCommit(Generic[Write, Result]):
    """Lets concurrent writes share a transaction: while one commits, the next batch gathers; nothing waits for company.

    `apply` carries out a batch inside a transaction and gives one result a write, in order. The transaction is a span of its
    own trace that links to every span it served. A batch that fails on one of its members is done again one by one.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        apply: Callable[[AsyncConnection, Sequence[Write]], Awaitable[Sequence[Result]]],
    ) -> None:
        self._database = database
        self._name = name
        self._apply = apply
        self._waiting: list[_Waiting[Write, Result]] = []
        self._wake = asyncio.Event()
        self._is_closing = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Commit while the context lasts, and at its end what is still waiting."""
        committing = asyncio.create_task(self._run(), name=self._name)
        try:
            yield self
        finally:
            self._is_closing = True
            self._wake.set()
            await committing

    async def submit(self, write: Write) -> Result:
        """Have a write committed; raises StoreUnavailable when the database is away."""
        waiting = _Waiting[Write, Result](write, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.done

    async def _run(self) -> None:
        while not self._is_closing:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                # A caller that has given up must not find its write done after all.
                batch = [waiting for waiting in self._waiting[:MAX_BATCH] if not waiting.done.done()]
                del self._waiting[:MAX_BATCH]
                if batch:
                    await self._commit(batch)

    async def _commit(self, batch: list[_Waiting[Write, Result]]) -> None:
        links = [
            Link(member.span, {semconv.LINK_REASON: LinkReason.BATCH_MEMBER.value})
            for member in batch
            if member.span.is_valid
        ]
        metrics.batch_size.record(len(batch), {"batch": self._name})
        try:
            with _tracer.start_as_current_span(
                self._name, Context(), links=links, attributes={semconv.BATCH_SIZE: len(batch)}
            ):
                async with self._database.transaction() as connection:
                    results = await self._apply(connection, [member.write for member in batch])
        except StoreUnavailable as error:
            _fail(batch, error)
        except Exception as error:
            if len(batch) == 1:
                _log.exception("%s failed", self._name)
                _fail(batch, StoreUnavailable(first_line(error)))
            else:
                for member in batch:
                    await self._commit([member])
        else:
            for member, result in zip(batch, results, strict=True):
                if not member.done.done():
                    member.done.set_result(result)


def _fail(batch: Sequence[_Waiting[Any, Any]], error: StoreUnavailable) -> None:
    for member in batch:
        if not member.done.done():
            member.done.set_exception(error)
