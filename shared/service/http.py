"""The application that both services' routes go into: traced, bounded, probed, and never without an answer."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from shared.service.body_limit import BodyLimit
from shared.service.head import HeadAsGet
from shared.service.probes import Ping, is_probe, probes
from shared.service.problems import answer_with_problems
from shared.service.trace_header import TraceIdHeader


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
