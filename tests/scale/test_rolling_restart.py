"""A deployment: every process is replaced while orders flow, and nobody loses anything by it."""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from shared.tools.traces.model import Span
from tests.scale.load import steady_load
from tests.scale.report import Report
from tests.torture.closing import close
from tests.torture.node import proxied_node
from tests.torture.plant import INVENTORY_WORKER, running_plant
from tests.torture.traces import PROCESS_CHECK

STOCK = {"widget": 1_000_000, "gadget": 3, "scarce": 20}
SMALLEST_SHARE = 0.35


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_every_process_is_restarted_in_turn_while_orders_flow_and_nothing_is_lost(tmp_path: Path) -> None:
    """Each process gets SIGTERM, ends by itself, and is started again on its port before the next one is asked to end.

    The load balancer before the APIs is played by the customers: who finds a port closed goes to the other one at once.
    """
    report = Report()
    async with proxied_node() as node, running_plant(tmp_path, STOCK, node, use_postgres=True) as plant:
        workers = [slot for slot in plant.slots.values() if slot.service == INVENTORY_WORKER]
        report.start_clock()

        async with steady_load(plant) as load:
            await load.wait_for_more(15)
            for slot in plant.slots.values():
                await slot.terminate()
                report.say(f"{slot.name} has ended with {slot.lives[-1].exit_status}")
                await slot.start()
                await slot.wait_for("/ready", within=60)
                report.say(f"{slot.name} is ready again")
                await load.wait_for_more(8)
            all_new_ns = time.time_ns()
            await load.wait_for_more(30)
        closing = await close(plant, load.customers.wishes, STOCK, tmp_path, report.say)

    decided = _decided_by(closing.traces.spans.values(), since_ns=all_new_ns)
    shares = {worker.name: decided[worker.lives[-1].instance] / decided.total() for worker in workers}
    report.sum_up(load, closing, {name: f"{share:.0%} of the orders" for name, share in shares.items()})
    assert closing.broken == []
    assert not closing.traces.lost
    assert [len(slot.lives) for slot in plant.slots.values()] == [2, 2, 2, 2]
    assert min(shares.values()) > SMALLEST_SHARE, "the broker hands the checks out in turn"


def _decided_by(spans: Iterable[Span], since_ns: int) -> Counter[str]:
    return Counter(
        str(span.resource["service.instance.id"])
        for span in spans
        if span.name == PROCESS_CHECK and span.start_ns > since_ns
    )
