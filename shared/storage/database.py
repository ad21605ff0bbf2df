"""The database of a service: prepared before its first use, and away only in one way, StoreUnavailable."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import sqlite

from shared.contract.errors import NewerSchema, StoreUnavailable
from shared.storage.away import away_as_unavailable
from shared.storage.engine import Result, Work
from shared.storage.engines import attributes_of, engine_for
from shared.storage.migrations import Migrations

_log = logging.getLogger(__name__)


class Database:
    """A database that is brought to its newest schema at its first use, and then filled with what it must have."""

    def __init__(
        self,
        url: str,
        migrations: Migrations | None = None,
        fill: Callable[[Connection], None] | None = None,
    ) -> None:
        self._engine = engine_for(url)
        self.attributes = attributes_of(url)
        self._migrations = migrations
        self._fill = fill
        self._is_prepared = False

    async def prepare(self) -> None:
        """Migrate and fill the database, once; raises StoreUnavailable when it is away, and NewerSchema."""
        with away_as_unavailable():
            if self._migrations is not None:
                await self._migrate(self._migrations)
            if self._fill is not None:
                await self._engine.write(self._fill)
        self._is_prepared = True

    async def _migrate(self, migrations: Migrations) -> None:
        try:
            if await self._engine.read(migrations.are_needed):
                await self._engine.migrate(migrations.run)
        except NewerSchema as error:
            # A database that was away at the start is found out later, where nobody could end the process for it.
            asyncio.get_running_loop().call_exception_handler({"message": str(error), "exception": error})
            raise

    async def write(self, work: Work[Result]) -> Result:
        """Run work in a transaction that writes, twice where it gave way to another one or its commit was not confirmed.

        Raises StoreUnavailable when the database is away or locked, as CommitUnknown where the work may have been done.
        """
        if not self._is_prepared:
            await self.prepare()
        with away_as_unavailable():
            return await self._engine.write(work)

    async def read(self, work: Work[Result]) -> Result:
        """Run work in a transaction that only reads; raises StoreUnavailable when the database is away."""
        if not self._is_prepared:
            await self.prepare()
        with away_as_unavailable():
            return await self._engine.read(work)

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the database can be written to."""
        await self.write(_require_writable)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Prepare the database, where it is there already, and close every connection at the end."""
        try:
            try:
                await self.prepare()
            except StoreUnavailable as error:
                _log.warning("the database is not available yet: %s", error)
            yield self
        finally:
            await self._engine.close()


def _require_writable(connection: Connection) -> None:
    """Find a standby out; a transaction that writes has found SQLite's lock out by now."""
    if connection.dialect.name != "postgresql":
        return
    if connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "on":
        raise StoreUnavailable("the database is read-only")


def insert_for(dialect: str, table: Table) -> Any:
    """Give the INSERT of a database's own dialect, which knows ON CONFLICT."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
