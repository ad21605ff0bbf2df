"""The broker that is tortured: a private node that can crash, and before it a proxy for each service."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from shared.tools.local.ports import LOOPBACK
from shared.tools.local.rabbitmq_node import PrivateNode
from tests.broker import new_node
from tests.torture.network import Wire, running_wires
from tests.torture.plant import SLOTS


class ProxiedNode:
    """One node and the wires of the services to it."""

    def __init__(self, node: PrivateNode, wires: Mapping[str, Wire], heartbeat: int) -> None:
        self._heartbeat = heartbeat
        self.wires = wires
        self.node = node

    @property
    def amqp_url(self) -> str:
        """The way past the proxies."""
        return self.node.amqp_url

    def url_for(self, slot: str) -> str:
        """Give a service its way; it notices within a few heartbeats that the other side has gone silent."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.wires[slot].port}/?heartbeat={self._heartbeat}"

    async def crash(self, away: float) -> None:
        """Kill the node, and start it again after so many seconds."""
        await asyncio.to_thread(self.node.kill)
        await asyncio.sleep(away)
        await asyncio.to_thread(self.node.restart)


@asynccontextmanager
async def proxied_node(*, management: bool = False, heartbeat: int = 1) -> AsyncIterator[ProxiedNode]:
    """Run a node with its proxies while the context lasts."""
    async with AsyncExitStack() as stack:
        node = new_node(management=management)
        await asyncio.to_thread(node.start)
        stack.callback(node.stop, grace=0)
        wires = stack.enter_context(running_wires([node.ports.amqp] * len(SLOTS)))
        yield ProxiedNode(node, dict(zip(SLOTS, wires, strict=True)), heartbeat)
