"""The proxies of a run, on an event loop of their own: a run that is busy must not look like a network that is slow."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from shared.tools.local.ports import LOOPBACK
from tests.tcp_proxy import TcpProxy


class Wire:
    """One proxy, for use from other threads."""

    def __init__(self, proxy: TcpProxy, loop: asyncio.AbstractEventLoop) -> None:
        self.port = proxy.port
        self._proxy = proxy
        self._loop = loop

    @property
    def connections(self) -> int:
        """How many connections are open through it."""
        return self._proxy.connections

    def cut(self) -> None:
        """Reset every connection."""
        self._do(self._proxy.cut)

    def refuse(self) -> None:
        """Let no new connection in."""
        self._do(self._proxy.refuse)

    def accept(self) -> None:
        """Let new connections in again."""
        self._do(self._proxy.accept)

    def stall(self) -> None:
        """Forward nothing."""
        self._do(self._proxy.stall)

    def resume(self) -> None:
        """Forward again."""
        self._do(self._proxy.resume)

    def slow(self, seconds: float) -> None:
        """Hold everything back for so long."""
        self._do(lambda: self._proxy.slow(seconds))

    def _do(self, action: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(action)


@contextmanager
def running_wires(ports: Sequence[int]) -> Iterator[list[Wire]]:
    """Run a proxy to each of these ports on loopback, in a thread."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()

    async def enter() -> list[Wire]:
        return [Wire(await stack.enter_async_context(TcpProxy(LOOPBACK, port)), loop) for port in ports]

    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(enter(), loop).result(timeout=10)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
