"""A PostgreSQL as people have it: addresses with the parameters of libpq, logins that are refused, a pooler in between."""

import asyncio
from functools import partial

import pytest
from sqlalchemy import Connection, make_url, text

from shared.contract.errors import StoreUnavailable
from shared.storage.away import away_as_unavailable
from shared.storage.engine import Engine
from shared.storage.engines import engine_for
from shared.tools.local.postgres import PrivatePostgres
from tests.transaction_pooler import TransactionPooler


def _scalar(statement: str, connection: Connection) -> object:
    return connection.scalar(text(statement))


async def _read(url: str, *statements: str) -> list[object]:
    engine = engine_for(url)
    try:
        with away_as_unavailable():
            return [await engine.read(partial(_scalar, statement)) for statement in statements]
    finally:
        await engine.close()


async def test_the_parameters_of_libpq_are_honoured(postgres: PrivatePostgres) -> None:
    parameters = "sslmode=prefer&application_name=shop&connect_timeout=7&channel_binding=prefer&gssencmode=disable"
    options = "options=-c%20statement_timeout%3D7s%20-c%20search_path%3Dpg_catalog"

    with postgres.database() as url:
        found = await _read(
            f"{url}?{parameters}&{options}", "SHOW application_name", "SHOW statement_timeout", "SHOW search_path"
        )

    assert found == ["shop", "7s", "pg_catalog"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody"}, 'role "nobody" does not exist'),
        ({"query": {"sslmode": "require"}}, "rejected SSL upgrade"),
        ({"query": {"application_name": "x", "options": "-c nonsense=1"}}, "unrecognized configuration parameter"),
        ({"port": 1}, "(?i)connect"),
    ],
)
async def test_a_server_that_refuses_us_is_away_and_says_why(
    postgres: PrivatePostgres, change: dict[str, object], said: str
) -> None:
    with postgres.database() as url:
        refused = make_url(url).set(**change)  # type: ignore[arg-type]

        with pytest.raises(StoreUnavailable, match=said):
            await _read(refused.render_as_string(hide_password=False), "SELECT 1")


async def test_through_a_pooler_of_transactions_40_writers_and_readers_find_their_statements(
    postgres: PrivatePostgres,
) -> None:
    with postgres.database() as url:
        address = make_url(url)
        pooler = TransactionPooler(address.port or 5432, address.username or "", address.database or "", size=3)
        async with pooler.running():
            engine = engine_for(address.set(port=pooler.port).render_as_string(hide_password=False))
            try:
                await engine.migrate(
                    lambda connection: connection.execute(text("CREATE TABLE seen (number int)")) and None
                )
                for _ in range(5):
                    await asyncio.gather(*(_write_and_read(engine, number) for number in range(8)))
                processes = {await engine.read(partial(_scalar, "SELECT pg_backend_pid()")) for _ in range(9)}
                seen = await engine.read(partial(_scalar, "SELECT count(*) FROM seen"))
            finally:
                await engine.close()

    assert seen == 40
    assert len(processes) == 3


async def _write_and_read(engine: Engine, number: int) -> None:
    insert = text("INSERT INTO seen VALUES (:number)")
    await engine.write(lambda connection: connection.execute(insert, {"number": number}) and None)
    found = await engine.read(partial(_scalar, f"SELECT count(*) FROM seen WHERE number = {number}"))
    assert isinstance(found, int)
    assert found > 0
