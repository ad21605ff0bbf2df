"""A cluster of three nodes that loses one after the other in four ways, under load, and is never away for long."""

import asyncio
from pathlib import Path

import pytest

from shared.contract.topology import INVENTORY_CHECK
from tests.scale.cluster import NAMES, START_SECONDS, STOP_SECONDS
from tests.scale.load import ANSWERED, DECIDED, Load, steady_load
from tests.scale.proxied_cluster import ProxiedCluster, proxied_cluster
from tests.scale.report import Report
from tests.torture.closing import close
from tests.torture.plant import Plant, running_plant

STOCK = {"widget": 1_000_000, "gadget": 3, "scarce": 20}
AWAY_SECONDS = 5.0
LONGEST_SILENCE = 10.0


@pytest.mark.long
@pytest.mark.timeout(480)
async def test_a_cluster_loses_its_nodes_in_turn_and_no_order_is_lost_or_kept_waiting(tmp_path: Path) -> None:
    """Three nodes keep every queue three times; every service knows the way to each, through a proxy, and uses one.

    The node that leads the queue of the checks loses power. Another one is restarted in order, as by an upgrade. The network
    to the node that most services use is cut and refuses for some seconds; then a failed router swallows all that goes to
    and from such a node, and tells nobody. Each comes back, and the cluster is whole again, before the next one goes.
    """
    report = Report()
    with proxied_cluster(tmp_path) as way:
        report.say("the cluster is up")
        async with running_plant(tmp_path, STOCK, way) as plant:
            await way.wait_until_whole()
            assert way.cluster.membership(INVENTORY_CHECK).members == set(NAMES)
            report.start_clock()

            async with steady_load(plant) as load:
                await load.wait_for_more(20)
                await _crash_the_leader(way, plant, load, report)
                await _restart_another(way, load, report)
                await _cut_off_the_busiest(way, plant, load, report)
                await _stall_the_busiest(way, plant, load, report)
            closing = await close(plant, load.customers.wishes, STOCK, tmp_path, report.say)

    silences = {f"longest with {api.name}": load.longest_silence(DECIDED, api.name) for api in plant.apis}
    report.sum_up(load, closing, silences)
    assert closing.broken == []
    assert not closing.traces.lost
    assert load.longest_silence(ANSWERED).lasted < LONGEST_SILENCE
    assert max(silence.lasted for silence in silences.values()) < LONGEST_SILENCE


async def _crash_the_leader(way: ProxiedCluster, plant: Plant, load: Load, report: Report) -> None:
    leader = way.cluster.membership(INVENTORY_CHECK).leader
    assert leader is not None
    report.say(f"the {leader} node leads {INVENTORY_CHECK}, and is killed")
    await asyncio.to_thread(way.cluster.nodes[leader].kill)
    await way.wait_until_all_are_elsewhere(leader)
    await _works_without_it(plant, load, report)
    await asyncio.to_thread(way.cluster.nodes[leader].restart, START_SECONDS)
    await _is_whole_again(way, load, report)


async def _restart_another(way: ProxiedCluster, load: Load, report: Report) -> None:
    node = way.busiest()
    report.say(f"the {node} node, with {way.wires[node].connections} services, is restarted in order")
    await asyncio.to_thread(way.cluster.nodes[node].restart, START_SECONDS, STOP_SECONDS)
    await way.wait_until_all_are_elsewhere(node)
    await _is_whole_again(way, load, report)


async def _cut_off_the_busiest(way: ProxiedCluster, plant: Plant, load: Load, report: Report) -> None:
    node = way.busiest()
    report.say(f"the {node} node, with {way.wires[node].connections} services, is cut off")
    way.wires[node].refuse()
    way.wires[node].cut()
    await asyncio.sleep(AWAY_SECONDS)
    await way.wait_until_all_are_elsewhere(node)
    await _works_without_it(plant, load, report)
    way.wires[node].accept()


async def _stall_the_busiest(way: ProxiedCluster, plant: Plant, load: Load, report: Report) -> None:
    node = way.busiest()
    report.say(f"the way to the {node} node, with {way.wires[node].connections} services, swallows everything")
    way.wires[node].stall()
    await asyncio.sleep(AWAY_SECONDS)
    await way.wait_until_all_are_elsewhere(node)
    await _works_without_it(plant, load, report)
    way.wires[node].resume()
    await load.wait_for_more(15)


async def _works_without_it(plant: Plant, load: Load, report: Report) -> None:
    assert await plant.wait_until_ready(within=60) == []
    await load.wait_for_more(8)
    report.say("every API decides orders again, without it")


async def _is_whole_again(way: ProxiedCluster, load: Load, report: Report) -> None:
    await way.wait_until_whole()
    await load.wait_for_more(8)
    report.say("it is back, and the cluster is whole")
