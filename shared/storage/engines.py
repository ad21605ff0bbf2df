"""The engine for a database, and what traces tell of where it is."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url

from shared.storage.engine import Engine
from shared.storage.postgres_engine import PostgresEngine
from shared.storage.sqlite_engine import SqliteEngine
from shared.telemetry import semconv


def engine_for(url: str) -> Engine:
    """Make the engine of a database; nothing connects before the first transaction."""
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    return SqliteEngine(parsed.set(drivername="sqlite")) if is_sqlite else PostgresEngine(parsed)


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
