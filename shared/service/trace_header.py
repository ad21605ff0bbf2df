"""The trace id of a request in a header of its answer, so that whoever complains can say which trace it was."""

from typing import Final

from opentelemetry import trace
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRACE_ID_HEADER: Final = "x-trace-id"


def trace_headers() -> dict[str, str]:
    """Give the header that names the current trace; none where nothing is traced."""
    span = trace.get_current_span().get_span_context()
    return {TRACE_ID_HEADER: trace.format_trace_id(span.trace_id)} if span.is_valid else {}


class TraceIdHeader:
    """ASGI middleware: adds `x-trace-id` to what the application answers, within its SERVER span."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = trace_headers() if scope["type"] == "http" else {}

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, send_with_header if headers else send)
