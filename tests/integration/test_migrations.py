"""Schema migrations at the start of a service, on SQLite and on PostgreSQL."""

import asyncio
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, inspect, text

from inventory_worker import stock_table
from inventory_worker.stock_store import Reservation, SqlStockStore
from order_api import order_table
from order_api.orders import Decision
from shared.contract.errors import NewerSchema
from shared.contract.messages import CheckInventory, Item, OrderStatus
from shared.storage.database import Database
from tests import databases_of_before as before
from tests.order_database import an_order, opened

ROOT = Path(__file__).parents[2]
SCHEMAS = [
    pytest.param(order_table.MIGRATIONS, [order_table.orders], before.ORDERS, id="orders"),
    pytest.param(stock_table.MIGRATIONS, [stock_table.stock, stock_table.decisions], before.INVENTORY, id="inventory"),
]
START = """
import asyncio, sys
from order_api.order_table import MIGRATIONS
from shared.storage.database import Database

async def main():
    database = Database(sys.argv[1], MIGRATIONS)
    print("ready to start", flush=True)
    sys.stdin.readline()
    async with database.open():
        await database.ping()
    print("alembic" in sys.modules)

asyncio.run(main())
"""


async def test_orders_of_the_version_before_are_brought_along(database_url: str) -> None:
    await before.execute(
        database_url, before.ORDERS, before.an_order("waiting"), before.an_order("done", "success", decided_at=1.0)
    )

    async with opened(database_url) as orders:
        claimed = await orders.outbox.claim_unconfirmed(10)
        done = await orders.store.get("done")
        repeated, is_new = await orders.store.add(an_order("waiting"))
        decided = await orders.store.record(Decision("waiting", OrderStatus.SUCCESS, None))
        _, is_new_now = await orders.store.add(an_order("another"))

    assert [order.order_id for order in claimed] == ["waiting"]
    assert done is not None
    assert (done.status, done.items) == (OrderStatus.SUCCESS, (Item(sku="widget", quantity=1),))
    assert (repeated, is_new) == (claimed[0], False)
    assert decided is not None
    assert decided.is_new
    assert is_new_now


async def test_decisions_of_the_version_before_are_brought_along(database_url: str) -> None:
    await before.execute(
        database_url, before.INVENTORY, "INSERT INTO stock VALUES ('widget', 5);", before.a_decision("done")
    )
    # What the decision was taken on is not known of that version, so nothing can conflict with it.
    check = CheckInventory(order_id="done", items=(Item(sku="widget", quantity=2),))

    async with (
        Database(database_url, stock_table.MIGRATIONS).open() as database,
        SqlStockStore(database).running() as store,
    ):
        repeat = await store.reserve(Reservation(check, None))
        new = await store.reserve(Reservation(check.model_copy(update={"order_id": "new"}), None))
        levels = await store.levels()

    assert (repeat.ruling.status, repeat.is_new) == (OrderStatus.SUCCESS, False)
    assert (new.ruling.status, new.is_new) == (OrderStatus.SUCCESS, True)
    assert levels == {"widget": 3}


async def test_an_instance_of_the_version_before_can_go_on_beside_it(database_url: str) -> None:
    await before.execute(database_url, before.ORDERS)

    async with opened(database_url) as orders:
        await before.execute(database_url, before.an_order("by-the-old"))
        claimed = await orders.outbox.claim_unconfirmed(10)

    assert [order.order_id for order in claimed] == ["by-the-old"]


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "of_before"])
@pytest.mark.parametrize(("migrations", "tables", "schema_before"), SCHEMAS)
async def test_the_migrated_schema_is_the_one_that_the_code_speaks_of(
    database_url: str, migrations: Any, tables: Sequence[Table], schema_before: str, is_empty: bool
) -> None:
    if not is_empty:
        await before.execute(database_url, schema_before)

    async with Database(database_url, migrations).open() as database:
        found = await database.read(lambda connection: {table.name: _columns(connection, table) for table in tables})

    assert found == {table.name: {column.name: column.nullable for column in table.columns} for table in tables}


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "of_before"])
async def test_four_processes_that_start_at_once_migrate_once(database_url: str, is_empty: bool) -> None:
    if not is_empty:
        await before.execute(database_url, before.ORDERS, before.an_order("waiting"))
    with ExitStack() as stack:
        starting = [stack.enter_context(_starting(database_url)) for _ in range(4)]
        for process in starting:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready to start\n"

        ended = await asyncio.gather(*(asyncio.to_thread(process.communicate, "now\n", 120) for process in starting))

    assert [process.returncode for process in starting] == [0] * 4, ended
    assert not any("available" in errors for _, errors in ended), ended
    async with opened(database_url) as orders:
        count, _ = await orders.outbox.pending()
        assert count == (0 if is_empty else 1)


async def test_a_start_on_the_newest_schema_changes_nothing_and_does_without_alembic(database_url: str) -> None:
    async with Database(database_url, order_table.MIGRATIONS).open() as database:
        first = await database.read(_schema)

    with _starting(database_url) as process:
        output, errors = await asyncio.to_thread(process.communicate, "now\n", 120)

    async with Database(database_url, order_table.MIGRATIONS).open() as database:
        assert await database.read(_schema) == first
    assert output.endswith("False\n"), errors


async def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    async with opened(database_url):
        pass
    await before.execute(database_url, "UPDATE alembic_version SET version_num = 'v999_later';")

    with pytest.raises(NewerSchema, match="at revision v999_later"):
        async with opened(database_url):
            pass


async def test_a_service_whose_database_is_of_a_newer_version_says_so_once_and_ends_with_1(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/orders.db"
    async with opened(url):
        pass
    await before.execute(url, "UPDATE alembic_version SET version_num = 'v999_later';")

    service = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "order_api"],
        cwd=ROOT,
        env={"DATABASE_URL": url, "ORDER_API_PORT": "0", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert service.returncode == 1
    assert service.stderr.count("v999_later") == 1
    assert "Traceback" not in service.stderr


def test_the_wheel_holds_every_migration(tmp_path: Path) -> None:
    build = ["uv", "build", "--quiet", "--offline", "--wheel", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=120)

    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if "/migrations/" in name and name.endswith(".py")}

    services = (ROOT / "order_api", ROOT / "inventory_worker")
    scripts = {str(path.relative_to(ROOT)) for service in services for path in service.glob("migrations/**/*.py")}
    assert packed == scripts
    assert len(packed) >= 8


def _starting(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _columns(connection: Connection, table: Table) -> dict[str, bool]:
    return {column["name"]: column["nullable"] for column in inspect(connection).get_columns(table.name)}


def _schema(connection: Connection) -> object:
    found = inspect(connection)
    tables = {
        name: (
            [column["name"] for column in found.get_columns(name)],
            [index["name"] for index in found.get_indexes(name)],
        )
        for name in sorted(found.get_table_names())
    }
    return tables, connection.scalar(text("SELECT version_num FROM alembic_version"))
