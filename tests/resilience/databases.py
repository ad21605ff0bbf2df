"""Faults of a database, done to it past the services: away, locked, or with a mind of its own about one SKU."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.tools.local.postgres import PrivatePostgres
from tests.faults.proxied_broker import ProxiedBroker
from tests.postgres import connect

KILLING_SQL = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER be_slow BEFORE UPDATE ON stock FOR EACH ROW WHEN (NEW.sku = '{sku}') EXECUTE FUNCTION be_slow();
"""
"""Holds a worker where it touches the SKU, until the test has killed it there."""

REFUSING_SQL = """
CREATE SEQUENCE attempts;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM nextval('attempts');
  RAISE EXCEPTION 'nobody has thought of this' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON stock FOR EACH ROW WHEN (NEW.sku = '{sku}') EXECUTE FUNCTION refuse();
"""
"""Fails for the SKU as a forgotten constraint does, and counts how often: a sequence is not rolled back."""


def execute(url: str, script: str) -> None:
    """Run statements."""
    asyncio.run(_with_connection(url, "execute", script))


def fetch(url: str, query: str) -> list[Any]:
    """Give the rows of a query."""
    rows: list[Any] = asyncio.run(_with_connection(url, "fetch", query))
    return rows


async def _with_connection(url: str, method: str, text: str) -> Any:
    connection = await connect(url)
    try:
        return await getattr(connection, method)(text)
    finally:
        await connection.close()


@contextmanager
def crashed(server: PrivatePostgres) -> Iterator[None]:
    """Kill a server, as a crash would, and start it again at the end."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def unreachable(way: ProxiedBroker) -> Iterator[None]:
    """Reset every connection through a proxy and let none in until the end."""
    way.refuse()
    way.cut()
    try:
        yield
    finally:
        way.accept()


class Killer:
    """Stands beside a database with KILLING_SQL in it, and knows who is caught there."""

    def __init__(self, url: str) -> None:
        self._url = url

    def caught(self) -> list[str]:
        """Name the roles of those who are held."""
        return [row["usename"] for row in fetch(self._url, f"SELECT usename {_SLEEPING}")]

    def let_go(self) -> None:
        """End the transaction of a worker that is dead: the server would notice only at the end of its sleep."""
        fetch(self._url, f"SELECT pg_terminate_backend(pid) {_SLEEPING}")


_SLEEPING = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


class Attempts:
    """Counts the attempts at what REFUSING_SQL refuses, with the time at which each was first seen."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.times: list[float] = []

    def look(self) -> None:
        """See whether there was another one."""
        row = fetch(self._url, "SELECT last_value, is_called FROM attempts")[0]
        count = row["last_value"] if row["is_called"] else 0
        self.times += [time.monotonic()] * (count - len(self.times))
