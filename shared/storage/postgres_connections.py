"""Connections to a PostgreSQL, directly or through a pooler that hands each transaction to any of its own.

Through such a pooler (PgBouncer with `pool_mode = transaction`) a statement that was prepared in one transaction is not there
in the next. A pooler shows in that the process that answers is not the one that a connection was told it is connected to.
"""

import logging
from typing import Any

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from shared.contract.errors import first_line
from shared.storage.libpq import address_of

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0
"""Longest wait for one answer of PostgreSQL: behind a connection that nobody serves any more, it would be for ever."""

_log = logging.getLogger(__name__)


class PostgresConnections:
    """Makes engines whose connections are all made alike."""

    def __init__(self, url: URL) -> None:
        self._address = address_of(url)
        self._is_pooled: bool | None = None
        if self._address.without_effect:
            _log.warning("DATABASE_URL: no effect here have %s", ", ".join(self._address.without_effect))

    def engine(self, command_timeout: float | None = COMMAND_SECONDS, **options: Any) -> AsyncEngine:
        """Make an engine; `command_timeout` is in seconds, None for as long as it takes, and `options` are SQLAlchemy's."""
        engine = create_async_engine("postgresql+asyncpg://", hide_parameters=True, **options)

        @event.listens_for(engine.sync_engine, "do_connect")
        def connect(dialect: Any, _record: object, _words: object, _options: object) -> Any:
            connection = await_only(self._connect(command_timeout))

            async def made() -> "asyncpg.Connection[Any]":
                return connection

            if not self._is_pooled:
                return dialect.dbapi.connect(async_creator_fn=made)
            # Each statement is prepared, without a name, in the transaction that it is run in.
            return dialect.dbapi.connect(
                async_creator_fn=made, prepared_statement_cache_size=0, prepared_statement_name_func=lambda: ""
            )

        @event.listens_for(engine.sync_engine, "checkout")
        def have_it_made_anew_if_lost(connection: Any, _record: object, _proxy: object) -> None:
            # The driver hears at once of a connection that was closed. To ask PostgreSQL would be three round trips more for
            # each transaction, and each waits for its turn in the event loop.
            if connection.driver_connection.is_closed():
                raise DisconnectionError("the connection was closed")

        return engine

    async def _connect(self, command_timeout: float | None) -> "asyncpg.Connection[Any]":
        """Connect; raises OSError for whatever goes wrong, from the login to a certificate: the database is away."""
        try:
            if self._is_pooled is None:
                self._is_pooled = await self._has_pooler()
            return await self._open(command_timeout, statements=0 if self._is_pooled else 100)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConnectionError(first_line(error)) from error

    async def _open(self, command_timeout: float | None, statements: int) -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(
            self._address.dsn,
            timeout=self._address.timeout or CONNECT_SECONDS,
            command_timeout=command_timeout,
            statement_cache_size=statements,
            ssl=self._address.tls,
        )

    async def _has_pooler(self) -> bool:
        connection = await self._open(COMMAND_SECONDS, statements=0)
        try:
            async with connection.transaction():
                is_pooled: bool = await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid()
        finally:
            await connection.close(timeout=CONNECT_SECONDS)
        if is_pooled:
            _log.info(
                "there is a pooler before PostgreSQL: no statement stays prepared from one transaction to the next"
            )
        return is_pooled
