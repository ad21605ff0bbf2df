"""`/health` and `/ready`: what asks whether a service lives, and whether it should be sent requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.types import Scope

from shared.contract.errors import TracedOrdersError
from shared.service.problems import problem

PING_SECONDS = 2.0

Ping = Callable[[], Awaitable[None]]
"""Asks one resource for a sign of life; raises TracedOrdersError, or hangs, where there is none."""


def is_probe(scope: Scope) -> bool:
    """Tell whether a request is one of the two: they come all the time and would bury every other trace."""
    return scope.get("path") in {"/health", "/ready"}


def probes(pings: Mapping[str, Ping]) -> APIRouter:
    """Make the two routes; `/ready` names those resources that do not answer their ping."""
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
