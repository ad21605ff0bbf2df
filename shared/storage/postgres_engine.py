"""PostgreSQL, on asyncpg: a transaction that gave way to another one is done again, as is one whose commit nobody confirmed."""

import logging

from sqlalchemy import URL, NullPool, text
from sqlalchemy.exc import DBAPIError

from shared.contract.errors import CommitUnknown, first_line
from shared.storage.engine import LOCK_SECONDS, Engine, Result, Work

_MIGRATION_LOCK = 0x74726163
"""Any number that no other application locks on in the same PostgreSQL database."""

_log = logging.getLogger(__name__)

_UNIQUE_VIOLATION = "23505"


def _gave_way(error: DBAPIError) -> bool:
    """Tell whether PostgreSQL undid a transaction for another one's sake: a deadlock, or that one inserted the same first."""
    state = str(getattr(error.orig, "sqlstate", None))
    return state.startswith("40") or state == _UNIQUE_VIOLATION


class PostgresEngine(Engine):
    """A few connections that write and a few that read: a burst of reads must not keep a commit waiting."""

    def __init__(self, url: URL) -> None:
        # Here, because with it comes SQLAlchemy's ORM: a fifth of the time in which a service starts.
        from shared.storage.postgres_connections import PostgresConnections

        connections = PostgresConnections(url)
        self._writer, self._reader = (
            connections.engine(pool_size=pool_size, max_overflow=0, pool_timeout=LOCK_SECONDS) for pool_size in (2, 5)
        )
        # Without a time limit for a command: to index a large table takes long, and to be tried again would not shorten it.
        self._migrator = connections.engine(command_timeout=None, poolclass=NullPool)

    async def write(self, work: Work[Result]) -> Result:
        """Run work in a transaction, twice where it gave way to another one or its commit was not confirmed."""
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
        """Run work in a transaction that is not committed."""
        async with self._reader.connect() as connection:
            return await connection.run_sync(work)

    async def migrate(self, work: Work[Result]) -> Result:
        """Run work under a lock of the whole database."""
        async with self._migrator.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            return await connection.run_sync(work)

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        await self._reader.dispose()
