"""What one message or one queue does must cost nobody else anything: a killer, a bug, a reply queue that refuses."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.tools.local.postgres import PrivatePostgres
from tests.resilience.databases import KILLING_SQL, REFUSING_SQL, Attempts, Killer, execute
from tests.resilience.load import Load
from tests.resilience.meter import CHECKS, EXCHANGE
from tests.resilience.rig import Rig
from tests.system import Service, new_id, order_body, stock_levels
from tests.waiting import eventually

INNOCENTS = 20
DEATHS = 20
"""Of workers, for one killer at most: each of the broker's and the worker's limits is below."""
OTHERS_IN_TIME = 0.97
SAME_ATTEMPT_SECONDS = 0.3
WATCHED_SECONDS = 50.0
"""Longer than the 40 s after which a check was given up once."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.long), 4])
def test_a_check_that_kills_its_worker_is_buried_alone_and_twenty_beside_it_are_decided(
    rig: Rig, own_postgres: PrivatePostgres, count: int
) -> None:
    """Whichever worker touches the killer's stock is killed, and started again, as by a supervisor.

    The twenty are in the queue before and behind the killer, so that one worker holds them all when it dies the first time.
    """
    with own_postgres.database() as url:
        roles = [f"worker-{number}-of-{count}" for number in range(count)]

        def start(role: str) -> Service:
            own = url.replace("//orders@", f"//{role}@")
            return rig.launch_worker(DATABASE_URL=own, INITIAL_STOCK='{"widget": 1000, "killer": 1000}')

        execute(url, "".join(f'CREATE ROLE "{role}" SUPERUSER LOGIN;' for role in roles))
        start(roles[0]).wait_until_ready().end()
        execute(url, KILLING_SQL.format(sku="killer"))
        api = rig.start_api(REPLY_TIMEOUT="0.5")
        innocents, killer = [new_id("GOOD") for _ in range(INNOCENTS)], new_id("KILLER")
        half = INNOCENTS // 2
        for order_id in (*innocents[:half], killer, *innocents[half:]):
            assert api.submit({"killer" if order_id == killer else "widget": 1}, order_id).status_code == 202

        began = time.monotonic()
        workers = {role: start(role) for role in roles}
        at_the_killer, deaths = Killer(url), 0

        def is_over() -> bool:
            nonlocal deaths
            for role in at_the_killer.caught():
                deaths += 1
                workers[role].kill()
                at_the_killer.let_go()
                workers[role] = start(role)
            pending = [order_id for order_id in (*innocents, killer) if api.read(order_id)["status"] == "pending"]
            return not pending or deaths > 3 * DEATHS

        with rig.meter.running():
            eventually(is_over, within=300, what="an outcome of every order")
            copies = rig.meter.published()[killer]
        for worker in workers.values():
            worker.wait_until_ready()

        statuses = {order_id: api.read(order_id)["status"] for order_id in innocents}
        letters = rig.meter.dead_letters()
        print(
            f"{deaths} deaths, {len(letters)} dead letters of {len(set(letters))} orders in {time.monotonic() - began:.0f} s"
        )
        assert set(statuses.values()) == {"success"}
        assert letters == [killer]
        assert copies == 0, "each counts from 0, and would kill as often again"
        assert api.read(killer)["status"] == "error"
        assert deaths <= DEATHS
        assert stock_levels(workers[roles[0]]) == {"widget": 1000 - INNOCENTS, "killer": 1000}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_bug_in_one_check_is_tried_again_with_growing_pauses_and_delays_nobody_else(
    rig: Rig, own_postgres: PrivatePostgres
) -> None:
    """A constraint that nobody has thought of refuses one SKU: the database is there, all others succeed."""
    with own_postgres.database() as url:
        rig.start_worker(DATABASE_URL=url, INITIAL_STOCK='{"widget": 100000, "cursed": 10}')
        api = rig.start_api(DATABASE_URL=f"sqlite:///{rig.orders_file()}")
        execute(url, REFUSING_SQL.format(sku="cursed"))
        attempts, load = Attempts(url), Load([api.service.url], 20.0)
        # The first ones of a process take longer.
        assert api.submit({"widget": 1}).status_code in {201, 202}

        cursed = new_id()
        with load.running(), ThreadPoolExecutor(1) as caller:
            caller.submit(api.submit, {"cursed": 1}, cursed)
            began = time.monotonic()
            while time.monotonic() < began + WATCHED_SECONDS:
                attempts.look()
                time.sleep(0.1)

        assert (load.share_in_time(began, began + WATCHED_SECONDS) or 0.0) >= OTHERS_IN_TIME
        assert api.read(cursed)["status"] == "pending"
        assert rig.meter.dead_letters() == []
        # A write that fails beside others is tried again at once, alone: that is one attempt.
        pauses = [
            after - before
            for before, after in itertools.pairwise(attempts.times)
            if after - before > SAME_ATTEMPT_SECONDS
        ]
        print(f"pauses between attempts: {[round(pause, 1) for pause in pauses]}")
        assert len(pauses) >= 2
        assert pauses[-1] > 2 * pauses[0]
        assert all(after > 0.8 * before for before, after in itertools.pairwise(pauses))
        execute(url, "DROP TRIGGER refuse ON stock")
        assert api.wait_for_outcome(cursed, within=900)["status"] == "success"


@pytest.mark.parametrize("seconds", [10, pytest.param(50, marks=pytest.mark.long)])
def test_a_reply_queue_that_refuses_costs_its_own_reply_and_no_connection(rig: Rig, seconds: float) -> None:
    """The asker's queue is full and says so (`reject-publish`): the broker refuses one message, and is well."""
    worker = rig.start_worker()
    api = rig.start_api()
    full, order_id = f"order-api.replies.{new_id('full')}", new_id()
    rig.meter.declare(full, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    rig.meter.publish(full, {"in": "the way"}, {})
    connections, redelivered = rig.meter.connections_made(), rig.meter.redelivered()
    before = stock_levels(worker)["widget"]

    with_reply_to_it = {"type": "inventory.check.v1", "correlation_id": order_id, "reply_to": full}
    rig.meter.publish(CHECKS, order_body({"widget": 2}, order_id), with_reply_to_it, exchange=EXCHANGE)
    began = time.monotonic()
    codes = set()
    while time.monotonic() < began + seconds:
        codes.add(api.submit({"widget": 1}).status_code)
        before -= 1
        time.sleep(0.2)

    assert codes == {201}
    assert stock_levels(worker)["widget"] == before - 2
    assert rig.meter.dead_letters() == []
    assert rig.meter.connections_made() == connections
    assert rig.meter.redelivered() == redelivered
    eventually(lambda: rig.meter.queue(CHECKS).get("messages") == 0, what="a check that is settled")
