"""Who may talk to the receiver: Basic auth for the API, and the rule for the page.

The page needs no login where the receiver listens on loopback. There it insists on a local `Host` header instead, so
that a web page from elsewhere cannot read traces through a name that it points at this machine. Any other address needs
the login.
"""

import secrets
from base64 import b64encode
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.tools.receiver.receiver_settings import ReceiverSettings

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class RequireLogin:
    """ASGI middleware: 401 without the right user and password."""

    def __init__(self, app: ASGIApp, settings: ReceiverSettings) -> None:
        self._app = app
        self._expected = b64encode(f"{settings.user}:{settings.password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or raises HTTPException 401."""
        scheme, _, given = HTTPConnection(scope).headers.get("authorization", "").partition(" ")
        matches = secrets.compare_digest(given.strip().encode("latin-1"), self._expected)
        if not matches or scheme.lower() != "basic":
            challenge = {"WWW-Authenticate": 'Basic realm="traces", charset="UTF-8"'}
            raise HTTPException(401, "user and password do not match", headers=challenge)
        await self._app(scope, receive, send)


class RequireLocalName:
    """ASGI middleware: 421 unless the request names this machine by a local name."""

    def __init__(self, app: ASGIApp, settings: ReceiverSettings) -> None:
        self._app = app
        self._names = _LOCAL_NAMES | {settings.host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or raises HTTPException 421."""
        if _host_name(HTTPConnection(scope).headers.get("host", "")) not in self._names:
            raise HTTPException(421, "open this page as http://127.0.0.1 or http://localhost")
        await self._app(scope, receive, send)


def _host_name(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
