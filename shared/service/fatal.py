"""The end of a service for a reason that no retry can change: said once, in one line, and told by the exit code."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contract.errors import Fatal

_log = logging.getLogger(__name__)


class FatalErrors:
    """Takes in what parts of the service hand to the event loop's exception handler, as a Fatal, and ends the service."""

    def __init__(self) -> None:
        self.have_come = False

    def watch(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        """Call `end` on the first Fatal; any other unhandled error goes the loop's usual way."""

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if not isinstance(error, Fatal):
                loop.default_exception_handler(context)
                return
            if not self.have_come:
                _log.critical("the service ends: %s", error)
            self.have_come = True
            end()

        loop.set_exception_handler(handle)

    def without_traceback(self, app: ASGIApp) -> ASGIApp:
        """Have a start that is given up for a reason that was said not repeat it with the way it took through the code."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_briefly(message: Message) -> None:
                has_been_said = self.have_come and message["type"] == "lifespan.startup.failed"
                await send({**message, "message": ""} if has_been_said else message)

            await app(scope, receive, send_briefly if scope["type"] == "lifespan" else send)

        return serve
