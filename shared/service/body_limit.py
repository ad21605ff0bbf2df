"""Bodies that are too large, refused so that the client can read why."""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.service.problems import problem

MAX_BODY_BYTES: Final = 64 * 1024

READ_ON_BYTES: Final = 16 * 1024 * 1024
READ_ON_SECONDS: Final = 5.0
"""How far the rest of a body that nobody wants is read: enough for an honest mistake, no gift to anyone else."""

_TOO_LARGE = problem(413, f"the body has more than {MAX_BODY_BYTES} bytes")


class BodyLimit:
    """ASGI middleware: refuses bodies of more than 64 KiB, announced or not, and reads on after an early answer.

    A connection that is closed with unread bytes is reset, and a reset can take the answer with it: most clients send their
    whole body before they read. So the answer goes out at once and whole, for those that look (or wait for `100 Continue`),
    and only then the rest of the body is read and forgotten, within bounds, and the connection closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._counted = RequestBodyLimitMiddleware(app, MAX_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_chunked = "transfer-encoding" in headers
        size = int(headers.get("content-length", "0"))
        if not (is_chunked or size):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        if is_chunked:
            app: ASGIApp = self._counted
        else:
            # The server takes no more than was announced. Refused here, because the framework's answer is no problem details.
            app = self._app if size <= MAX_BODY_BYTES else _TOO_LARGE
        await app(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request with a body, and the answer to it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_read = False

    async def receive(self) -> Message:
        message = await self._receive()
        # A client that is gone sends nothing more either.
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._is_read:
            await self._send(message)
        elif message["type"] == "http.response.start":
            MutableHeaders(scope=message)["connection"] = "close"
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._read_on()
            await self._send({"type": "http.response.body"})

    async def _read_on(self) -> None:
        left = READ_ON_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_ON_SECONDS):
                while left > 0 and not self._is_read:
                    left -= len((await self.receive()).get("body", b""))
