"""From the version before the databases had migrations: what it left is taken over, and both versions work side by side."""

import json
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from tests.resilience.databases import REFUSING_SQL, execute
from tests.resilience.meter import CHECKS, EXCHANGE
from tests.resilience.rig import INITIAL, Rig, code_of
from tests.system import Api, Service, new_id, order_body, stock_levels
from tests.waiting import eventually

BEFORE = "2e7905520f12caadd917e8b9f3a1910384765776"
ROOT = Path(__file__).parents[2]
CURSED = 10
REFUSING_SQLITE = """
CREATE TRIGGER refuse BEFORE UPDATE ON stock WHEN NEW.sku = 'cursed' BEGIN SELECT RAISE(ABORT, 'not yet'); END
"""


@dataclass(frozen=True)
class Databases:
    """A database of each service, and the way to fail its worker's for one SKU."""

    orders: str
    inventory: str
    refuse: Callable[[], None]
    relent: Callable[[], None]


@pytest.fixture(scope="session")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before, from the history of this repository."""
    found = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"the history of this clone does not reach back to {BEFORE[:7]}")
    directory = tmp_path_factory.mktemp("old-code")
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def databases(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Databases]:
    """Empty databases of each kind."""
    if request.param == "sqlite":
        orders, inventory = (f"sqlite:///{file}" for file in (rig.orders_file(), rig.inventory_file()))

        def run(statement: str) -> None:
            with closing(sqlite3.connect(rig.inventory_file(), timeout=30)) as connection:
                connection.execute(statement)

        yield Databases(orders, inventory, lambda: run(REFUSING_SQLITE), lambda: run("DROP TRIGGER refuse"))
    else:
        server = request.getfixturevalue("own_postgres")
        with server.database() as orders, server.database() as inventory:
            yield Databases(
                orders,
                inventory,
                lambda: execute(inventory, REFUSING_SQL.format(sku="cursed")),
                lambda: execute(inventory, "DROP TRIGGER refuse ON stock"),
            )


class Orders:
    """Every order of the test, each for one unit, and what it was told."""

    def __init__(self) -> None:
        self.items: dict[str, str] = {}

    def place(self, api: Api, count: int, sku: str = "widget") -> list[str]:
        """Place so many orders, and give their ids."""
        placed = []
        for _ in range(count):
            answer = api.submit({sku: 1}, new_id())
            assert answer.status_code in {201, 202}, answer.text
            placed.append(answer.json()["order_id"])
            self.items[placed[-1]] = sku
        return placed


@pytest.mark.timeout(300)
def test_what_the_version_before_left_is_taken_over_and_both_versions_work_side_by_side(
    rig: Rig, databases: Databases, old_code: Path
) -> None:
    """Pending orders, checks in retry queues and a dead letter wait; then processes are replaced one by one, and back."""
    orders = Orders()
    old = code_of(old_code)

    def worker(environment: dict[str, str]) -> Service:
        stock = json.dumps({"widget": INITIAL, "cursed": CURSED})
        return rig.start_worker(DATABASE_URL=databases.inventory, INITIAL_STOCK=stock, **environment)

    def api(environment: dict[str, str]) -> Api:
        return rig.start_api(DATABASE_URL=databases.orders, REPLY_TIMEOUT="1", **environment)

    # What the version before leaves.
    old_worker, old_api = worker(dict(old)), api(dict(old))
    decided = orders.place(old_api, 5)
    poison = new_id("POISON")
    unknown = {"type": "inventory.check.v0", "correlation_id": poison}
    rig.meter.publish(CHECKS, order_body({"widget": 1}, poison), unknown, exchange=EXCHANGE)
    eventually(lambda: rig.meter.dead_letters() == [poison], what="a dead letter")
    databases.refuse()
    orders.place(old_api, 3, "cursed")
    eventually(lambda: _waits(rig, "8000ms") or _waits(rig, "30000ms"), within=60, what="a check that waits for long")
    old_worker.kill()
    databases.relent()
    pending = orders.place(old_api, 10)

    # A new worker beside the old API, then beside an old worker, then alone.
    new_worker = worker({})
    for order_id in pending:
        assert old_api.wait_for_outcome(order_id, within=60)["status"] == "success"
    old_worker = worker(dict(old))
    orders.place(old_api, 10)
    assert old_worker.end() == 0
    orders.place(old_api, 5)

    # A new API beside the old one, which knows its orders, then alone.
    new_api = api({})
    for some_api in (old_api, new_api):
        orders.place(some_api, 5)
    assert new_api.submit({"widget": 1}, decided[0]).status_code == 200
    assert old_api.service.end() == 0
    orders.place(new_api, 5)

    # One step back, as after a deployment that was a mistake.
    with ExitStack() as stack:
        back = api(dict(old))
        stack.callback(back.service.end)
        orders.place(back, 5)

    for order_id in orders.items:
        assert new_api.wait_for_outcome(order_id, within=90)["status"] == "success"
    sold = list(orders.items.values())
    assert stock_levels(new_worker) == {"widget": INITIAL - sold.count("widget"), "cursed": CURSED - 3}
    assert rig.meter.dead_letters() == [poison]
    assert new_worker.end() == 0
    assert new_api.service.end() == 0


def _waits(rig: Rig, delay: str) -> bool:
    try:
        return bool(rig.meter.queue(f"{CHECKS}.retry.{delay}").get("messages"))
    except httpx.HTTPStatusError:
        return False
