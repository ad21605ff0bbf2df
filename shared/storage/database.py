"""A database behind a service: SQLite in one file or PostgreSQL, with writes grouped into shared transactions.

What runs inside a transaction is plain synchronous code on a SQLAlchemy connection. For SQLite it runs in a thread, one hop
a transaction; an asynchronous driver makes one a statement, which cost more than the statements. For PostgreSQL it runs on
asyncpg.
"""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext
from sqlalchemy import URL, Connection, Engine, MetaData, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.contract.errors import StoreUnavailable, first_line
from shared.telemetry import semconv
from shared.telemetry.semconv import LinkReason
from shared.tracing import instruments as metrics

LOCK_SECONDS = 2.0
"""Longest wait for another process to let go of the SQLite file."""
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0
"""Longest wait for one answer of PostgreSQL: behind a connection that nobody serves any more, it would be for ever."""
MAX_BATCH = 256
"""Writes in one transaction: enough to share one fsync, few enough to keep the wait behind it short."""
READERS = 2

_PREPARE_LOCK = 0x74726163
"""Any number that no other application locks on in the same PostgreSQL database."""

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)

Write = TypeVar("Write")
Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class _Engine(ABC):
    """Runs work in transactions."""

    @abstractmethod
    async def write(self, work: Work[Result], *, is_durable: bool) -> Result: ...

    @abstractmethod
    async def read(self, work: Work[Result]) -> Result: ...

    @abstractmethod
    async def close(self) -> None: ...


class _Sqlite(_Engine):
    """One thread that writes, as SQLite has one writer, and a few that read beside it."""

    def __init__(self, url: URL) -> None:
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", pool_size=1)
        self._reader = _sqlite_engine(url, begin="BEGIN", pool_size=READERS)
        self._writing = ThreadPoolExecutor(1, "database-writer")
        self._reading = ThreadPoolExecutor(READERS, "database-reader")

    async def write(self, work: Work[Result], *, is_durable: bool) -> Result:
        def transact() -> Result:
            with self._writer.connect() as connection:
                # In a WAL the next durable transaction makes this one durable too.
                _set_synchronous(connection, "FULL" if is_durable else "NORMAL")
                with connection.begin():
                    return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writing, transact)

    async def read(self, work: Work[Result]) -> Result:
        def transact() -> Result:
            with self._reader.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reading, transact)

    async def close(self) -> None:
        for threads in (self._writing, self._reading):
            threads.shutdown(wait=False)
        self._writer.dispose()
        self._reader.dispose()


def _set_synchronous(connection: Connection, level: str) -> None:
    raw = connection.connection
    if raw.info.get("synchronous") != level:
        raw.cursor().execute(f"PRAGMA synchronous={level}")
        raw.info["synchronous"] = level


def _sqlite_engine(url: URL, *, begin: str, pool_size: int) -> Engine:
    engine = create_engine(
        url, pool_size=pool_size, max_overflow=0, hide_parameters=True, connect_args={"timeout": LOCK_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Without it the driver begins transactions by itself, and late: two writers could then only deadlock.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL").close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


class _Postgres(_Engine):
    """A few connections that write and a few that read: a burst of reads must not keep a commit waiting."""

    def __init__(self, url: URL) -> None:
        # Here, because with it comes SQLAlchemy's ORM: a fifth of the time in which a service starts.
        from sqlalchemy.ext.asyncio import create_async_engine

        self._writer, self._reader = (
            create_async_engine(
                url.set(drivername="postgresql+asyncpg"),
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=LOCK_SECONDS,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS},
            )
            for pool_size in (2, 5)
        )

    async def write(self, work: Work[Result], *, is_durable: bool) -> Result:  # noqa: ARG002 - every write is
        # With synchronous_commit off, a crash of the server alone would lose what had been answered already.
        async with self._writer.begin() as connection:
            return await connection.run_sync(work)

    async def read(self, work: Work[Result]) -> Result:
        async with self._reader.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._writer.dispose()
        await self._reader.dispose()


class Database:
    """The database of one service."""

    def __init__(self, url: str, metadata: MetaData, fill: Callable[[Connection], None] | None = None) -> None:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        self._engine: _Engine = _Sqlite(parsed.set(drivername="sqlite")) if is_sqlite else _Postgres(parsed)
        self._metadata = metadata
        self._fill = fill
        self._is_prepared = False

    async def prepare(self) -> None:
        """Create the tables that are missing and fill them, once; raises StoreUnavailable when the database is away."""
        if self._is_prepared:
            return
        with _translated_errors():
            await self._engine.write(self._create, is_durable=True)
        self._is_prepared = True

    def _create(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            # Two instances that start together would both create what both found missing.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PREPARE_LOCK})
        self._metadata.create_all(connection)
        if self._fill is not None:
            self._fill(connection)

    async def write(self, work: Work[Result], *, is_durable: bool = True) -> Result:
        """Run work in a transaction that writes; raises StoreUnavailable when the database is away or locked.

        One that is not durable survives the crash of any process, but not that of the machine.
        """
        await self.prepare()
        with _translated_errors():
            return await self._engine.write(work, is_durable=is_durable)

    async def read(self, work: Work[Result]) -> Result:
        """Run work in a transaction that only reads; raises StoreUnavailable when the database is away."""
        await self.prepare()
        with _translated_errors():
            return await self._engine.read(work)

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the database answers."""
        await self.read(lambda connection: connection.execute(text("SELECT 1")).close())

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
            await self._engine.close()


def insert_for(dialect: str, table: Table) -> Any:
    """Give the INSERT of a database's own dialect, which knows ON CONFLICT."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn what drivers raise when a database is away, locked or slow into StoreUnavailable; a bug stays what it is."""
    try:
        yield
    except (DataError, IntegrityError, NotSupportedError, ProgrammingError):
        raise
    except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
        raise StoreUnavailable(first_line(error)) from error


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
        apply: Callable[[Connection, Sequence[Write]], Sequence[Result]],
        must_be_durable: Callable[[Write], bool] = lambda _: True,
    ) -> None:
        self._database = database
        self._name = name
        self._apply = apply
        self._must_be_durable = must_be_durable
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
        metrics.batch_size.record(len(batch), {"batch": self._name})
        try:
            with self._span(batch):
                writes = [member.write for member in batch]
                results = await self._database.write(
                    lambda connection: self._apply(connection, writes),
                    is_durable=any(map(self._must_be_durable, writes)),
                )
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

    def _span(self, batch: Sequence[_Waiting[Write, Result]]) -> AbstractContextManager[object]:
        """Begin the span of a transaction, with a link to every span it serves; none where nobody traces any of them."""
        links = [
            Link(member.span, {semconv.LINK_REASON: LinkReason.BATCH_MEMBER.value})
            for member in batch
            if member.span.trace_flags.sampled
        ]
        if not links:
            return contextlib.nullcontext()
        attributes = {semconv.BATCH_SIZE: len(batch)}
        return _tracer.start_as_current_span(self._name, Context(), links=links, attributes=attributes)


def _fail(batch: Sequence[_Waiting[Any, Any]], error: StoreUnavailable) -> None:
    for member in batch:
        if not member.done.done():
            member.done.set_exception(error)
