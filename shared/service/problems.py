"""Problem details (RFC 9457): the answer to everything that is wrong, and what the OpenAPI documents say of it."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.contract.errors import CommitUnknown, Overloaded, StoreUnavailable
from shared.service.trace_header import trace_headers

MEDIA_TYPE: Final = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]
"""Answers by status, as routes document them."""

_log = logging.getLogger(__name__)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> JSONResponse:
    """Answer with problem details; `members` are added to the standard ones."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def problem_response(status: int, description: str) -> Responses:
    """Document an answer with problem details."""
    return {status: {"description": description, "content": {MEDIA_TYPE: {}}}}


KEY_REQUIRED: Final = problem_response(401, "the API key is missing or wrong")
TOO_LARGE: Final = problem_response(413, "the body is too large")
NOT_VALID: Final = problem_response(422, "the input is not valid")


def answer_with_problems(app: FastAPI) -> None:
    """Make every error of an application an answer with problem details."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(StoreUnavailable, _on_store_unavailable)
    app.add_exception_handler(CommitUnknown, _on_commit_unknown)
    app.add_exception_handler(Exception, _on_bug)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    http_error = cast(HTTPException, error)
    # The framework's word for a body that is not even text; every other input that is not valid is a 422.
    status = 422 if http_error.status_code == 400 else http_error.status_code
    headers = dict(http_error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return problem(status, str(http_error.detail), headers)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    invalid = cast(RequestValidationError, error)
    # The values stay out: they are the caller's data, and an answer ends up in logs.
    errors = [{"field": ".".join(map(str, part["loc"])), "message": part["msg"]} for part in invalid.errors()[:20]]
    return problem(422, "; ".join(f"{part['field']}: {part['message']}" for part in errors[:3]), errors=errors)


async def _on_store_unavailable(_: Request, error: Exception) -> Response:
    _log.warning("the database is not available: %s", error)
    state = "too busy" if isinstance(error, Overloaded) else "not available"
    return problem(503, f"the database is {state}, try again", {"Retry-After": "1"})


async def _on_commit_unknown(_: Request, error: Exception) -> Response:
    # No 503: that says that certainly nothing was stored.
    _log.warning("a commit was not confirmed: %s", error)
    return problem(504, "the database did not confirm it: read it back, or repeat it under the same id")


async def _on_bug(_: Request, __: Exception) -> Response:
    # The only answer that is made outside the middleware that adds the header to every other one.
    return problem(500, "an unexpected error; the log has it under this trace id", trace_headers())
