"""The HTTP server of a service: the port it takes, how long it keeps connections, and how it ends."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from shared.service.fatal import FatalErrors

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s for which usual proxies keep an idle connection: the end that closes must be theirs."""
PATIENCE_SECONDS = 1.0
"""How long open requests may go on waiting at shutdown: a reply that is on its way still arrives in it."""
GRACE_SECONDS = 15
"""Longest time that open requests get at shutdown."""

_log = logging.getLogger(__name__)


def bind(host: str, port: int) -> list[socket.socket]:
    """Take the port on each address of the host; raises OSError.

    Nothing listens yet: until the application is there a client is refused at once rather than left waiting.
    """
    taken = []
    with ExitStack() as undo:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            each = undo.enter_context(socket.socket(family, kind, protocol))
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
            taken.append(each)
        undo.pop_all()
    return taken


def is_loopback(taken: socket.socket) -> bool:
    """Tell whether only this machine reaches a socket."""
    return ip_address(taken.getsockname()[0].partition("%")[0]).is_loopback


async def serve(name: str, app: FastAPI, sockets: list[socket.socket]) -> bool:
    """Serve until SIGTERM or SIGINT, and tell whether it came to that.

    False where the application could not start, or where a part of it has handed a Fatal to the event loop's exception
    handler, which also ends it.
    """
    fatal = FatalErrors()
    config = uvicorn.Config(
        fatal.without_traceback(app),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, app.state.stop_waiting)
    fatal.watch(asyncio.get_running_loop(), lambda: server.handle_exit(signal.SIGTERM, None))
    # Now, so that a signal before uvicorn's own call is not lost; and for after it: uvicorn raises the signal again once it
    # has shut down, but an orderly end is exit code 0, not death by signal.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, server.handle_exit)
    _log.info("%s starts on http://%s:%d", name, *sockets[0].getsockname()[:2])
    try:
        await server.serve(sockets)
    except SystemExit:
        # uvicorn's way to say that the application has not started; it has logged why.
        return False
    except OSError as error:
        # Two that took the port in the same moment: the second cannot listen.
        _log.error("%s cannot serve: %s", name, error)
        return False
    _log.info("%s has ended", name)
    return server.started and not fatal.have_come


class _Server(uvicorn.Server):
    """Ends the waiting of open requests when it shuts down, because it waits for their end."""

    def __init__(self, config: uvicorn.Config, stop_waiting: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop_waiting = stop_waiting

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, wait for the open ones, end the application."""
        asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._stop_waiting)
        await super().shutdown(sockets)
