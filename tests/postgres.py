"""PostgreSQL for the tests: a server of their own, and a witness's way into its databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from shared.tools.local import postgres
from shared.tools.local.postgres import PrivatePostgres
from shared.tools.local.rabbitmq_debian import can_install, install


@contextmanager
def private_postgres(directory: Path) -> Iterator[PrivatePostgres]:
    """Run a server while the context lasts; a machine without one, where none can be installed, fails with a sentence."""
    if postgres.find_postgres() is None and can_install():
        install("postgresql")
    with postgres.private_postgres(directory) as server:
        yield server


async def connect(url: str) -> asyncpg.Connection:
    """Connect to a database past the services, as a witness."""
    return await asyncpg.connect(url)
