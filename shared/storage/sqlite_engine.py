"""SQLite: one thread that writes, as it has one writer, and a few that read beside it.

Work runs in a thread, one hop a transaction; an asynchronous driver makes one a statement, which cost more than the statements.
"""

import asyncio
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy import Engine as SqlAlchemyEngine

from shared.storage.engine import LOCK_SECONDS, Engine, Result, Work
from shared.storage.sqlite_file import make_file

MIGRATION_LOCK_SECONDS = 60.0
"""Longest wait for another process that migrates the same SQLite file."""
READERS = 2
WAL_TRIES, WAL_PAUSE = 5, 0.05


class SqliteEngine(Engine):
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
        """Run work in a transaction of the one thread that writes."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._transact, work)

    def _transact(self, work: Work[Result]) -> Result:
        # Kept: to take a connection out of the pool and to put it back takes longer than an empty transaction.
        if self._connection is None:
            self._connection = self._writer.connect()
        with self._connection.begin():
            return work(self._connection)

    async def read(self, work: Work[Result]) -> Result:
        """Run work beside it."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, _transact, self._reader, work)

    async def migrate(self, work: Work[Result]) -> Result:
        """Run work with more patience for another process that does the same."""
        engine = _sqlite_engine(self._url, begin="BEGIN IMMEDIATE", pool_size=1, patience=MIGRATION_LOCK_SECONDS)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writing, _transact, engine, work)
        finally:
            engine.dispose()

    async def close(self) -> None:
        """Close every connection."""
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
