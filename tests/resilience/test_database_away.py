"""A database is away: its service stops to consume and waits, and nothing that it was handed is worse off for that."""

import time

from shared.tools.local.postgres import PrivatePostgres
from tests.faults.proxied_broker import proxied
from tests.resilience.databases import crashed, unreachable
from tests.resilience.drill import MESSAGES_AN_ORDER, PROMISED, Findings, Size, drill, long, sizes
from tests.resilience.rig import Rig, cpu_seconds
from tests.sqlite_lock import locked

SLACK_SECONDS = 15.0
"""Beside the backlog: until a service that looks for its database with growing pauses has found it."""
LOAD_SHARE = 0.2
"""Of one CPU, for a worker that can do nothing but wait."""
ROUNDS, BETWEEN_SECONDS = 20, 0.7
AT_ONE_COMMIT_SECONDS = 0.5
"""What has come in such a time may be in one transaction, beside other tests."""
STRAYS = 5
"""Deliveries of hundreds that may cross with the end of consumption in one of twenty outages, and come back once; one in one."""


def _assert_nobody_was_worse_off(found: Findings, strays: int = 1) -> None:
    assert found.broken == {}
    assert found.row.messages_an_order <= MESSAGES_AN_ORDER
    assert found.row.dead_letters == 0
    assert found.row.retries == 0
    assert found.row.connections == 0
    assert found.row.redelivered <= strays, "every delivery is one nearer to a limit"


@sizes(Size(8, 40), long(60, 100), long(300, 50))
def test_the_workers_postgresql_is_killed_and_checks_wait(rig: Rig, own_postgres: PrivatePostgres, size: Size) -> None:
    """SIGKILL on the server: open transactions are gone, new connections are refused until it is started again."""
    with own_postgres.database() as url:
        worker = rig.start_worker(DATABASE_URL=url)
        rig.start_api()
        used = 0.0

        def fault() -> None:
            nonlocal used
            before = cpu_seconds(worker)
            with crashed(own_postgres):
                time.sleep(size.seconds)
                used = cpu_seconds(worker) - before

        found = drill(rig, "worker's PostgreSQL away", size, fault)

        _assert_nobody_was_worse_off(found)
        assert used <= LOAD_SHARE * size.seconds + 1
        found.assert_in_time(SLACK_SECONDS)


@sizes(Size(10, 40), long(60, 100))
def test_the_workers_sqlite_file_is_locked_by_somebody_else_and_checks_wait(rig: Rig, size: Size) -> None:
    """Another process holds the lock, as a backup or a person with a shell does: reads go on, every write has to wait."""
    worker = rig.start_worker()
    rig.start_api()
    used = 0.0

    def fault() -> None:
        nonlocal used
        before = cpu_seconds(worker)
        with locked(rig.inventory_file()):
            time.sleep(size.seconds)
        used = cpu_seconds(worker) - before

    found = drill(rig, "worker's SQLite locked", size, fault)

    _assert_nobody_was_worse_off(found)
    assert used <= LOAD_SHARE * size.seconds + 1
    found.assert_in_time(SLACK_SECONDS)


@sizes(Size(0.5, 20), long(5, 40))
def test_twenty_short_outages_of_the_workers_database_in_a_row_bring_no_check_nearer_to_a_limit(
    rig: Rig, own_postgres: PrivatePostgres, size: Size
) -> None:
    """Every connection to the server is reset and refused for a while, again and again, with little time in between."""
    with own_postgres.database() as url, proxied(url) as way:
        rig.start_worker(DATABASE_URL=way.amqp_url)
        rig.start_api()

        def fault() -> None:
            for _ in range(ROUNDS):
                with unreachable(way):
                    time.sleep(size.seconds)
                time.sleep(BETWEEN_SECONDS * size.seconds)

        found = drill(rig, f"worker's PostgreSQL away {ROUNDS} times", size, fault)

        _assert_nobody_was_worse_off(found, STRAYS)
        found.assert_in_time(SLACK_SECONDS)


@sizes(Size(10, 40), long(60, 100))
def test_the_apis_postgresql_is_killed_and_replies_wait(rig: Rig, own_postgres: PrivatePostgres, size: Size) -> None:
    """SIGKILL on the server while checks wait for the worker, which then replies to an API that can record nothing.

    New orders are refused with 503 and are certainly not stored, or they are accepted; none is asked for again. Only those whose
    commit the server was at when it was killed are told that nobody knows.
    """
    with own_postgres.database() as url:
        worker = rig.start_worker()
        rig.start_api(DATABASE_URL=url)

        def fault() -> None:
            with worker.paused():
                time.sleep(1.0)
                own_postgres.kill()
            time.sleep(size.seconds)
            own_postgres.start()

        found = drill(rig, "API's PostgreSQL away", size, fault)

        _assert_nobody_was_worse_off(found)
        assert set(found.codes) <= PROMISED | {"504"}
        assert found.codes.get("504", 0) <= AT_ONE_COMMIT_SECONDS * size.rate
        found.assert_in_time(SLACK_SECONDS)
        assert found.row.settled_after is not None
        assert found.row.settled_after < SLACK_SECONDS
