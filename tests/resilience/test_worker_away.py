"""The worker is away while orders keep coming: a backlog waits in the queue, once, and drains at the worker's speed."""

import time

from tests.resilience.drill import MESSAGES_AN_ORDER, Size, drill, long, sizes
from tests.resilience.rig import Rig

SLACK_SECONDS = 5.0
"""Beside the backlog: the first window, and who waits for the worker to be noticed as back."""

SIZES = sizes(Size(8, 60), long(60, 100))


@SIZES
def test_a_paused_worker_costs_no_copies_and_its_backlog_drains_at_its_speed(rig: Rig, size: Size) -> None:
    """SIGSTOP, as on a machine without CPU: connections stay open, checks are confirmed and wait."""
    worker = rig.start_worker()
    rig.start_api()

    def fault() -> None:
        with worker.paused():
            time.sleep(size.seconds)

    found = drill(rig, "worker paused", size, fault)

    assert found.broken == {}
    assert found.row.messages_an_order <= MESSAGES_AN_ORDER
    assert found.row.dead_letters == 0
    found.assert_in_time(SLACK_SECONDS)


@SIZES
def test_a_killed_worker_costs_no_copies_and_its_backlog_drains_at_its_speed(rig: Rig, size: Size) -> None:
    """SIGKILL, and another one after a while: what the first one held is delivered again, all else waits."""
    rig.start_worker()
    rig.start_api()

    def fault() -> None:
        rig.worker.kill()
        time.sleep(size.seconds)
        rig.start_worker()

    found = drill(rig, "worker killed", size, fault)

    assert found.broken == {}
    assert found.row.messages_an_order <= MESSAGES_AN_ORDER
    assert found.row.dead_letters == 0
    found.assert_in_time(SLACK_SECONDS)
