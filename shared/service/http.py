"""The application that both services' routes go into: traced, bounded, probed, and never without an answer."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import fastapi
from fastapi import APIRouter, FastAPI
from opentelemetry import metrics
from opentelemetry.util.types import AnyValue
from pydantic import SecretStr

from shared.service.body_limit import BodyLimit
from shared.service.head import HeadAsGet
from shared.service.probes import Ping, is_probe, probes
from shared.service.problems import answer_with_problems
from shared.service.trace_header import TraceIdHeader
from shared.telemetry import SECONDS, begin, semconv


def new_app(
    title: str,
    summary: str,
    lifespan: Any,
    pings: Mapping[str, Ping],
    router: APIRouter | None = None,
    api_key: SecretStr | None = None,
    stop_waiting: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make an application with one SERVER span a request, bounded bodies, problem details, `/health` and `/ready`.

    `api_key` is what the routes ask for that depend on `require_key`; without one they are open. `stop_waiting` is
    called at shutdown, soon after the last request has come in: it makes the requests that wait answer with what there is.
    """
    app = FastAPI(
        title=title,
        summary=summary,
        lifespan=lifespan,
        # Flat, and those that are asked for most first: a router that is included costs each request its own look.
        routes=[*(router.routes if router else ()), *probes(pings).routes],
        telemetry={"operation_spans": False, "logs": False, "exclude": is_probe, "auto_configure": False},
    )
    app.state.api_key = api_key
    app.state.stop_waiting = stop_waiting
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit)
    # The last one added is the outermost: what the others answer has the header too.
    app.add_middleware(TraceIdHeader)
    answer_with_problems(app)
    return app


def begin_requests(statuses: Mapping[str, Iterable[int]]) -> None:
    """Report how long POSTs to routes take from now on, before the first one has come; by route and status.

    FastAPI makes its histogram at the first request. Made here before, under the same scope and name, it is the same one.
    """
    meter = metrics.get_meter("fastapi", fastapi.__version__, schema_url=semconv.SCHEMA_URL)
    meter.create_histogram(
        "http.server.request.duration",
        "s",
        "Duration of HTTP server requests.",
        explicit_bucket_boundaries_advisory=SECONDS,
    )
    common: dict[str, AnyValue] = {
        "http.request.method": "POST",
        "network.protocol.version": "1.1",
        "url.scheme": "http",
    }
    for route, each in statuses.items():
        for status in each:
            known = {**common, "http.route": route, "http.response.status_code": status}
            begin("http.server.request.duration", known)
