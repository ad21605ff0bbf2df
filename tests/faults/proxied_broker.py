"""A broker behind a TCP proxy on a thread of its own, so that it forwards while the test itself waits."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

from yarl import URL

from tests.tcp_proxy import TcpProxy


class ProxiedBroker:
    """The way to a broker, which can be broken: each fault holds before the call returns."""

    def __init__(self, amqp_url: str, proxy: TcpProxy, loop: asyncio.AbstractEventLoop) -> None:
        self.amqp_url = str(URL(amqp_url).with_host("127.0.0.1").with_port(proxy.port))
        self._proxy = proxy
        self._loop = loop

    def heartbeat(self, seconds: int) -> str:
        """Give the URL for clients that are to notice a silent peer sooner."""
        return str(URL(self.amqp_url).update_query(heartbeat=seconds))

    def cut(self) -> None:
        """Close every connection at once and drop what was under way."""
        self._do(self._proxy.cut)

    def stall(self, *, to_broker: bool = True, to_client: bool = True) -> None:
        """Forward nothing and keep the sockets open."""
        self._do(partial(self._proxy.stall, to_target=to_broker, to_client=to_client))

    def resume(self) -> None:
        """End a stall."""
        self._do(self._proxy.resume)

    def refuse(self) -> None:
        """Let no new connection in."""
        self._do(self._proxy.refuse)

    def accept(self) -> None:
        """Let new connections in again."""
        self._do(self._proxy.accept)

    def slow(self, seconds: float) -> None:
        """Hold everything back for so long, in each direction."""
        self._do(partial(self._proxy.slow, seconds))

    def _do(self, act: Callable[[], None]) -> None:
        async def on_the_loop() -> None:
            act()

        asyncio.run_coroutine_threadsafe(on_the_loop(), self._loop).result(10)


@contextmanager
def proxied(amqp_url: str) -> Iterator[ProxiedBroker]:
    """Run a proxy in front of a broker while the context lasts."""
    target = URL(amqp_url)
    started: SimpleQueue[tuple[ProxiedBroker, Callable[[], object]]] = SimpleQueue()

    async def run() -> None:
        async with TcpProxy(target.host or "127.0.0.1", target.port or 5672) as proxy:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            started.put((ProxiedBroker(amqp_url, proxy, loop), partial(loop.call_soon_threadsafe, ended.set)))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="tcp-proxy")
    thread.start()
    broker, end = started.get(timeout=10)
    try:
        yield broker
    finally:
        end()
        thread.join()
