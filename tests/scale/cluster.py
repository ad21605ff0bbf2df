"""A RabbitMQ cluster of the tests' own: three private nodes that find each other, and a view of who leads what."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.tools.local.guarded_process import GuardedProcess
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.rabbitmq_config import Cluster
from shared.tools.local.rabbitmq_node import PrivateNode
from shared.tools.local.rabbitmq_server import Server, accepts
from tests.broker import new_node
from tests.waiting import eventually

NAMES = ("first", "second", "third")
START_SECONDS = 120.0
"""Longest start of a node: it waits for the others, on a machine that may be busy."""
STOP_SECONDS = 60.0
"""Longest orderly end of a node."""


@dataclass(frozen=True)
class Membership:
    """Where a quorum queue lives, by names of nodes."""

    members: frozenset[str]
    online: frozenset[str]
    leader: str | None

    @property
    def is_whole(self) -> bool:
        """Whether every member takes part, and one of them leads."""
        return self.leader in self.online and self.online == self.members


class PrivateCluster:
    """Three nodes by name; the first has the management interface, so nothing is to be asked while it is down."""

    def __init__(self, nodes: dict[str, PrivateNode]) -> None:
        self.nodes = nodes
        first = nodes[NAMES[0]]
        assert first.management_url
        self._api = httpx.Client(
            base_url=f"{first.management_url}/api", auth=("guest", "guest"), timeout=30, trust_env=False
        )

    def running(self) -> frozenset[str]:
        """Name the nodes that the cluster counts as running."""
        found = self._api.get("/nodes").raise_for_status().json()
        return frozenset(_short(node["name"]) for node in found if node["running"])

    def membership(self, queue: str) -> Membership:
        """Say where a quorum queue lives now."""
        found = self._api.get(f"/queues/%2F/{queue}").raise_for_status().json()
        leader = found.get("leader")
        return Membership(_all_short(found["members"]), _all_short(found["online"]), leader and _short(leader))

    def wait_until_whole(self, queues: Sequence[str], within: float = 60.0) -> None:
        """Wait until every node runs, and every one of these queues is whole."""

        def is_whole() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return self.running() == set(NAMES) and all(self.membership(queue).is_whole for queue in queues)
            return False

        eventually(is_whole, within=within, what="a whole cluster")

    def close(self) -> None:
        """End the view; the nodes end with their context."""
        self._api.close()


@contextmanager
def private_cluster(directory: Path) -> Iterator[PrivateCluster]:
    """Run three nodes of the chosen generation as one cluster; all of it ends with the context, but for their logs."""
    with ExitStack() as stack:
        cluster = Cluster(NAMES, port_of(stack.enter_context(claim_port())), secrets.token_hex(16))
        nodes = {name: new_node(name=name, cluster=cluster, management=name == NAMES[0]) for name in NAMES}
        stack.enter_context(_running_epmd(nodes[NAMES[0]].server, cluster.epmd_port, directory / "epmd.log"))
        for node in nodes.values():
            stack.callback(node.stop, grace=0)
        # At once: none of them is ready before it has found the others.
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: node.start(START_SECONDS), nodes.values()))
        for name, node in nodes.items():
            stack.callback(shutil.copy, node.log, directory / f"rabbitmq-{name}.log")
        formed = PrivateCluster(nodes)
        stack.callback(formed.close)
        formed.wait_until_whole([])
        yield formed


@contextmanager
def _running_epmd(server: Server, port: int, log: Path) -> Iterator[None]:
    """Run the one epmd that tells the members of a cluster where each other is: it has to outlive every one of them."""
    command = server.command("epmd", "-port", str(port), "-address", LOOPBACK)
    epmd = GuardedProcess(command, env={"PATH": server.search_path}, log=log)
    try:
        eventually(lambda: accepts(LOOPBACK, port), within=30, what="epmd")
        yield
    finally:
        epmd.end(grace=0)


def _short(node: str) -> str:
    return node.partition("@")[0]


def _all_short(nodes: Sequence[str]) -> frozenset[str]:
    return frozenset(map(_short, nodes))
