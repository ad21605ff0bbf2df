"""What both HTTP interfaces share: problem details, the API key, the trace id header, health and readiness."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from opentelemetry import trace
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contract.errors import StoreUnavailable, TracedOrdersError

TRACE_ID_HEADER = "x-trace-id"
MAX_BODY_BYTES = 64 * 1024
PING_SECONDS = 2.0

Ping = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)


def new_app(
    title: str, summary: str, lifespan: Any, pings: Mapping[str, Ping], api_key: SecretStr | None = None
) -> FastAPI:
    """Make an application with one SERVER span a request, bounded bodies, problem details, `/health` and `/ready`.

    `api_key` is what the routes ask for that depend on `require_key`; without one they are open.
    """
    app = _App(
        title=title,
        summary=summary,
        lifespan=lifespan,
        max_body_size=MAX_BODY_BYTES,
        telemetry={"operation_spans": False, "logs": False, "exclude": _is_probe},
    )
    app.state.api_key = api_key
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(StoreUnavailable, _on_store_unavailable)
    app.add_exception_handler(Exception, _on_bug)
    app.include_router(_probes(pings))
    return app


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> JSONResponse:
    """Answer with problem details (RFC 9457)."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class _RequiredKey(APIKeyHeader):
    """Lets a request pass that has the application's API key, where it has one; raises HTTPException 401."""

    async def __call__(self, request: Request) -> None:  # type: ignore[override] # nobody needs the key itself
        required: SecretStr | None = request.app.state.api_key
        if required is None:
            return
        given = request.headers.get(self.model.name, "")
        if not secrets.compare_digest(given.encode(), required.get_secret_value().encode()):
            raise HTTPException(401, "the X-API-Key header is missing or wrong", {"WWW-Authenticate": "ApiKey"})


require_key = _RequiredKey(
    name="X-API-Key", scheme_name="APIKeyHeader", description="only where ORDER_API_KEY is set", auto_error=False
)


_TOO_LARGE = problem(413, f"the body has more than {MAX_BODY_BYTES} bytes")


def _is_probe(scope: Scope) -> bool:
    return scope.get("path") in {"/health", "/ready"}


def _probes(pings: Mapping[str, Ping]) -> APIRouter:
    router = APIRouter(tags=["probes"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the process serves."""
        return {"status": "healthy"}

    @router.get("/ready", responses={503: {"description": "a resource does not answer; its name is in `unavailable`"}})
    async def ready() -> Response:
        """Tell whether every resource answers its own ping."""
        failures = await asyncio.gather(*(_failure_of(ping) for ping in pings.values()))
        failed = {name: failure for name, failure in zip(pings, failures, strict=True) if failure is not None}
        if failed:
            return problem(503, f"not available: {', '.join(failed)}", unavailable=failed)
        return JSONResponse({"status": "ready"})

    return router


async def _failure_of(ping: Ping) -> str | None:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await ping()
    except TracedOrdersError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {PING_SECONDS:.0f} s"
    return None


class _App(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        # Outside everything else, so that the framework's own answers to bugs and to large bodies pass through it too.
        return Edge(super().build_middleware_stack())


class Edge:
    """Puts the trace id of a request into its response, whatever the response is; refuses a body announced as too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        span = trace.get_current_span().get_span_context()

        async def send_with_trace_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[TRACE_ID_HEADER] = trace.format_trace_id(span.trace_id)
            await send(message)

        app = self._app if _announced_size(scope) <= MAX_BODY_BYTES else _TOO_LARGE
        await app(scope, receive, send_with_trace_id if span.is_valid else send)


def _announced_size(scope: Scope) -> int:
    size = Headers(scope=scope).get("content-length", "0")
    return int(size) if size.isdecimal() else 0


async def _on_http_exception(_: Request, error: Exception) -> Response:
    http_error = cast(HTTPException, error)
    # The framework's word for a body that is not even text; every other input that is not valid is a 422.
    status = 422 if http_error.status_code == 400 else http_error.status_code
    return problem(status, str(http_error.detail), http_error.headers)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    invalid = cast(RequestValidationError, error)
    # The values stay out: they are the caller's data, and an answer ends up in logs.
    errors = [{"field": ".".join(map(str, part["loc"])), "message": part["msg"]} for part in invalid.errors()[:20]]
    return problem(422, "; ".join(f"{part['field']}: {part['message']}" for part in errors[:3]), errors=errors)


async def _on_store_unavailable(_: Request, error: Exception) -> Response:
    _log.warning("the database is not available: %s", error)
    return problem(503, "the database is not available, try again", {"Retry-After": "1"})


async def _on_bug(_: Request, __: Exception) -> Response:
    return problem(500, "an unexpected error; the log has it under this trace id")
