"""The way of the services to a cluster: a wire to each node, which can be broken, and all of them in every AMQP_URL."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared.contract.topology import QUEUES
from shared.tools.local.ports import LOOPBACK
from tests.scale.cluster import NAMES, PrivateCluster, private_cluster
from tests.torture.network import Wire, running_wires
from tests.torture.plant import SLOTS
from tests.waiting import eventually


class ProxiedCluster:
    """A cluster and the wires to its nodes, by names of nodes."""

    def __init__(self, cluster: PrivateCluster, wires: Mapping[str, Wire]) -> None:
        self.cluster = cluster
        self.wires = wires

    @property
    def amqp_url(self) -> str:
        """The way past the proxies."""
        return self.cluster.nodes[NAMES[0]].amqp_url

    def url_for(self, slot: str) -> str:
        """Give a service the ways to all nodes, to each service in another order, so that they spread."""
        first = SLOTS.index(slot) % len(NAMES)
        names = (*NAMES[first:], *NAMES[:first])
        return ",".join(f"amqp://guest:guest@{LOOPBACK}:{self.wires[name].port}/?heartbeat=1" for name in names)

    def busiest(self) -> str:
        """Name the node that most services are connected to."""
        return max(NAMES, key=lambda name: self.wires[name].connections)

    async def wait_until_all_are_elsewhere(self, node: str, within: float = 30.0) -> None:
        """Wait until every service is connected to another node than this one."""
        others = [wire for name, wire in self.wires.items() if name != node]
        await asyncio.to_thread(
            eventually,
            lambda: sum(wire.connections for wire in others) >= len(SLOTS),
            within=within,
            what=f"every service connected elsewhere than to {node}",
        )

    async def wait_until_whole(self) -> None:
        """Wait until every node runs and takes part in every queue."""
        await asyncio.to_thread(self.cluster.wait_until_whole, [queue.name for queue in QUEUES])


@contextmanager
def proxied_cluster(directory: Path) -> Iterator[ProxiedCluster]:
    """Run a cluster with its proxies while the context lasts."""
    with private_cluster(directory) as cluster:
        ports = [cluster.nodes[name].ports.amqp for name in NAMES]
        with running_wires(ports) as wires:
            yield ProxiedCluster(cluster, dict(zip(NAMES, wires, strict=True)))
