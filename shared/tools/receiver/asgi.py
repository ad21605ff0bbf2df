"""The receiver as an ASGI app: ingest and JSON behind Basic auth, the page for people beside them."""

from dataclasses import asdict
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from shared.tools.receiver import ingest, page
from shared.tools.receiver.auth import RequireLocalName, RequireLogin
from shared.tools.receiver.document import error_page
from shared.tools.receiver.live import LiveStreams
from shared.tools.receiver.log_store import LogStore
from shared.tools.receiver.metric_store import MetricStore
from shared.tools.receiver.queue_history import QueueHistory
from shared.tools.receiver.receiver_settings import ReceiverSettings
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.traces.model import span_to_json, tree

_MOST_TRACES = 1_000


def create_app(settings: ReceiverSettings) -> Starlette:
    """The app with stores of its own; nothing outlives it. `state.streams` are its open event streams."""
    traces = TraceStore(settings.max_spans, settings.max_trace_bytes)
    logs = LogStore(settings.max_logs, settings.max_log_bytes)
    metrics, queues = MetricStore(settings.max_series), QueueHistory()
    metrics.on_export = queues.add
    streams = LiveStreams(settings.max_live)
    login = [Middleware(RequireLogin, settings=settings)]
    api: list[Route | Mount] = [
        Mount("/v1", routes=ingest.routes(traces, logs, metrics, max_body=settings.max_body)),
        *_read_routes(traces, logs, metrics),
    ]
    page_guard = RequireLocalName if settings.on_loopback else RequireLogin
    app = Starlette(
        routes=[
            Route("/healthz", _healthz),
            Mount("/api/{org}", routes=api, middleware=login),
            # Where OTLP exporters send to that are told nothing but an endpoint.
            Mount("/v1", routes=ingest.routes(traces, logs, metrics, max_body=settings.max_body), middleware=login),
            Mount(
                "/",
                routes=page.routes(traces, logs, queues, streams, settings),
                middleware=[Middleware(page_guard, settings=settings)],
            ),
        ],
        exception_handlers={HTTPException: _problem},
    )
    app.state.streams = streams
    return app


def _read_routes(traces: TraceStore, logs: LogStore, metrics: MetricStore) -> list[Route]:
    async def list_traces(request: Request) -> Response:
        limit = _number(request, "limit", 50, most=_MOST_TRACES)
        since_ns = _number(request, "since_ns", 0, most=2**64)
        found = traces.latest(limit, order_id=request.query_params.get("order_id"), since_ns=since_ns)
        return JSONResponse({"traces": [asdict(summary) for summary in found]})

    async def get_trace(request: Request) -> Response:
        trace_id = request.path_params["trace_id"].lower()
        spans = traces.trace(trace_id)
        if not spans:
            raise HTTPException(404, "no such trace here: never arrived, or evicted for newer ones")
        linked = traces.linked_into(trace_id)
        return JSONResponse(
            {
                "trace_id": trace_id,
                "spans": [span_to_json(node.span) for node in tree(spans)],
                "linked": [span_to_json(span) for span in linked],
            }
        )

    async def get_logs(request: Request) -> Response:
        entries = logs.of_trace(request.path_params["trace_id"])
        return JSONResponse({"logs": [asdict(entry) for entry in entries]})

    async def get_metrics(_: Request) -> Response:
        return JSONResponse({"metrics": [asdict(point) for point in metrics.latest()]})

    return [
        Route("/traces", list_traces),
        Route("/traces/{trace_id}", get_trace),
        Route("/traces/{trace_id}/logs", get_logs),
        Route("/metrics", get_metrics),
    ]


async def _healthz(_: Request) -> Response:
    """As OpenObserve answers, and who this is: by it a client tells the two apart."""
    return JSONResponse({"status": "ok", "receiver": "traced-orders"})


async def _problem(request: Request, error: Exception) -> Response:
    """Every refusal: a page for people, problem details (RFC 9457) for anybody else."""
    status, detail, headers = 500, "", None
    if isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, error.headers
    if "text/html" in request.headers.get("accept", ""):
        return error_page(status, detail, headers)
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def _number(request: Request, name: str, default: int, *, most: int) -> int:
    """A query parameter from 0 to `most`. Raises HTTPException 422."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= most):
        raise HTTPException(422, f"{name} must be a whole number from 0 to {most}")
    return int(text)
