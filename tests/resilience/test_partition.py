"""A real partition of a cluster: one node loses sight of the other two, while clients of each reach it as before.

The nodes refuse each other's cookie (`rabbitmqctl eval`), so that their distribution connections end and no new one comes up.
That needs no root, and leaves clients' connections alone.
"""

import asyncio
from pathlib import Path

import pytest

from shared.contract.topology import INVENTORY_CHECK
from tests.resilience.drill import Size, long, sizes
from tests.resilience.rabbitmqctl import rabbitmqctl
from tests.scale.cluster import NAMES, PrivateCluster
from tests.scale.load import DECIDED, steady_load
from tests.scale.proxied_cluster import proxied_cluster
from tests.scale.report import Report
from tests.torture.closing import close
from tests.torture.plant import running_plant

STOCK = {"widget": 1_000_000, "gadget": 3, "scarce": 20}
LONGEST_SILENCE = 20.0
NOTICE_SECONDS = 60.0


@pytest.mark.timeout(600)
@pytest.mark.long
@sizes(Size(10, 15), long(60, 15))
async def test_the_node_that_leads_the_checks_is_cut_off_from_the_others_and_nothing_is_lost(
    tmp_path: Path, size: Size
) -> None:
    """The minority of one pauses itself (`pause_minority`), the other two elect a new leader, services go to them."""
    report = Report()
    with proxied_cluster(tmp_path) as way:
        async with running_plant(tmp_path, STOCK, way) as plant:
            await way.wait_until_whole()
            alone = way.cluster.membership(INVENTORY_CHECK).leader
            assert alone is not None
            report.start_clock()

            async with steady_load(plant) as load:
                await load.wait_for_more(10)
                report.say(f"the {alone} node is alone")
                await asyncio.to_thread(_part, way.cluster, alone)
                await way.wait_until_all_are_elsewhere(alone, within=NOTICE_SECONDS)
                await load.wait_for_more(8)
                report.say("every API decides orders again")
                await asyncio.sleep(size.seconds)
                await asyncio.to_thread(_join, way.cluster, alone)
                await way.wait_until_whole()
                report.say("the cluster is whole again")
                await load.wait_for_more(8)
            closing = await close(plant, load.customers.wishes, STOCK, tmp_path, report.say)

    report.sum_up(load, closing, {})
    assert closing.broken == []
    assert load.longest_silence(DECIDED).lasted < LONGEST_SILENCE


def _part(cluster: PrivateCluster, alone: str) -> None:
    _on_each_other(cluster, alone, "erlang:set_cookie(N, wrong), erlang:disconnect_node(N)")


def _join(cluster: PrivateCluster, alone: str) -> None:
    _on_each_other(cluster, alone, "erlang:set_cookie(N, erlang:get_cookie())")


def _on_each_other(cluster: PrivateCluster, alone: str, what: str) -> None:
    others = ", ".join(f"'{name}@localhost'" for name in NAMES if name != alone)
    rabbitmqctl(cluster.nodes[alone], "eval", f"[begin {what} end || N <- [{others}]].", name=alone)
