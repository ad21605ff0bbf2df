"""HEAD, which every resource that has GET must answer too (RFC 9110, 9.1) and the framework refuses."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware: handles HEAD as GET, so that no route needs a second method; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        # In a copy: the server goes by the method that it finds in its own.
        await self._app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)
