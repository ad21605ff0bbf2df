"""What runs work in transactions: SQLite in threads, PostgreSQL on asyncpg.

Work is plain synchronous code on a SQLAlchemy connection. For SQLite it runs in a thread, one hop a transaction; an
asynchronous driver makes one a statement, which cost more than the statements.
"""

import asyncio
import logging
import random
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, NullPool, create_engine, event, make_url, text
from sqlalchemy import Engine as SqlAlchemyEngine
from sqlalchemy.exc import DBAPIError

from shared.contract.errors import CommitUnknown, first_line
from shared.storage.sqlite_file import make_file
from shared.telemetry import semconv

LOCK_SECONDS = 2.0
"""Longest wait for another process to let go of the SQLite file, or for a connection of the pool."""
MIGRATION_LOCK_SECONDS = 60.0
"""Longest wait for another process that migrates the same SQLite file."""
READERS = 2
WAL_TRIES, WAL_PAUSE = 5, 0.05

_MIGRATION_LOCK = 0x74726163
"""Any number that no other application locks on in the same PostgreSQL database."""

_log = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class Engine(ABC):
    """Runs work in transactions, which otherwise raise what their driver raises."""

    @abstractmethod
    async def write(self, work: Work[Result]) -> Result:
        """Run work in a transaction that survives a crash of the machine once it has ended.

        Work may be run twice, so it must find what it has written. Raises CommitUnknown where only the end went wrong.
        """

    @abstractmethod
    async def read(self, work: Work[Result]) -> Result:
        """Run work in a transaction that only reads."""

    @abstractmethod
    async def migrate(self, work: Work[Result]) -> Result:
        """Run work that may take long in a transaction that writes, and beside which no other of this kind runs."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""


def engine_for(url: str) -> Engine:
    """Make the engine of a database; nothing connects before the first transaction."""
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    return _Sqlite(parsed.set(drivername="sqlite")) if is_sqlite else _Postgres(parsed)


def attributes_of(url: str) -> Mapping[str, str | int]:
    """Say where a database is, in the names of the conventions."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {semconv.DB_SYSTEM_NAME: "sqlite", semconv.DB_NAMESPACE: Path(parsed.database or "").stem}
    return {
        semconv.DB_SYSTEM_NAME: "postgresql",
        semconv.DB_NAMESPACE: parsed.database or parsed.username or "",
        semconv.SERVER_ADDRESS: parsed.host or "localhost",
        semconv.SERVER_PORT: parsed.port or 5432,
    }


class _Sqlite(Engine):
    """One thread that writes, as SQLite has one writer, and a few that read beside it."""

    def __init__(self, url: URL) -> None:
        make_file(Path(url.database or ""))
        self._url = url
        self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", pool_size=1)
        self._reader = _sqlite_engine(url, begin="BEGIN", pool_size=READERS)
        self._connection: Connection | None = None
        self._writing = ThreadPoolExecutor(1, "database-writer")
        self._reading = ThreadPoolExecutor(READERS, "database-reader")

    async def write(self, work: Work[Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._transact, work)

    def _transact(self, work: Work[Result]) -> Result:
        # Kept: to take a connection out of the pool and to put it back takes longer than an empty transaction.
        if self._connection is None:
            self._connection = self._writer.connect()
        with self._connection.begin():
            return work(self._connection)

    async def read(self, work: Work[Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._reading, _transact, self._reader, work)

    async def migrate(self, work: Work[Result]) -> Result:
        engine = _sqlite_engine(self._url, begin="BEGIN IMMEDIATE", pool_size=1, patience=MIGRATION_LOCK_SECONDS)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writing, _transact, engine, work)
        finally:
            engine.dispose()

    async def close(self) -> None:
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._writing, self._connection.close)
        for threads in (self._writing, self._reading):
            threads.shutdown(wait=False)
        self._writer.dispose()
        self._reader.dispose()


def _transact(engine: SqlAlchemyEngine, work: Work[Result]) -> Result:
    with engine.begin() as connection:
        return work(connection)


def _sqlite_engine(url: URL, *, begin: str, pool_size: int, patience: float = LOCK_SECONDS) -> SqlAlchemyEngine:
    engine = create_engine(
        url, pool_size=pool_size, max_overflow=0, hide_parameters=True, connect_args={"timeout": patience}
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Without it the driver begins transactions by itself, and late: two writers could then only deadlock.
        connection.isolation_level = None
        _keep_a_wal(connection)
        # In a WAL, a commit is not durable by default in every build of SQLite.
        connection.execute("PRAGMA synchronous=FULL").close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _keep_a_wal(connection: sqlite3.Connection) -> None:
    """Two processes that turn the same file to it at once are in each other's way, and told so without having waited."""
    for _ in range(WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(random.uniform(0, WAL_PAUSE))  # noqa: S311 - only to part them
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL").close()


_UNIQUE_VIOLATION = "23505"


def _gave_way(error: DBAPIError) -> bool:
    """Tell whether PostgreSQL undid a transaction for another one's sake: a deadlock, or that one inserted the same first."""
    state = str(getattr(error.orig, "sqlstate", None))
    return state.startswith("40") or state == _UNIQUE_VIOLATION


class _Postgres(Engine):
    """A few connections that write and a few that read: a burst of reads must not keep a commit waiting."""

    def __init__(self, url: URL) -> None:
        # Here, because with it comes SQLAlchemy's ORM: a fifth of the time in which a service starts.
        from shared.storage.postgres_connections import PostgresConnections

        connections = PostgresConnections(url)
        self._writer, self._reader = (
            connections.engine(pool_size=pool_size, max_overflow=0, pool_timeout=LOCK_SECONDS, pool_pre_ping=True)
            for pool_size in (2, 5)
        )
        # Without a time limit for a command: to index a large table takes long, and to be tried again would not shorten it.
        self._migrator = connections.engine(command_timeout=None, poolclass=NullPool)

    async def write(self, work: Work[Result]) -> Result:
        try:
            return await self._transact(work)
        except CommitUnknown:
            _log.warning("a commit was not confirmed, and is done again")
            try:
                return await self._transact(work)
            except Exception as error:
                raise CommitUnknown(first_line(error)) from error
        except DBAPIError as error:
            if not _gave_way(error):
                raise
            _log.warning("a transaction gave way to another one, and is done again: %s", first_line(error))
            return await self._transact(work)

    async def _transact(self, work: Work[Result]) -> Result:
        async with self._writer.connect() as connection:
            result = await connection.run_sync(work)
            try:
                await connection.commit()
            except (DBAPIError, OSError, TimeoutError) as error:
                if isinstance(error, DBAPIError) and _gave_way(error):
                    raise
                raise CommitUnknown(first_line(error)) from error
            return result

    async def read(self, work: Work[Result]) -> Result:
        async with self._reader.connect() as connection:
            return await connection.run_sync(work)

    async def migrate(self, work: Work[Result]) -> Result:
        async with self._migrator.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._writer.dispose()
        await self._reader.dispose()
