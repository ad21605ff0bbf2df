"""What every route of both services gets: the trace id in each answer, problem details, bounds, an answer to HEAD."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Message, Receive, Scope, Send

from shared.contract.errors import StoreUnavailable
from shared.service import body_limit
from shared.service.body_limit import MAX_BODY_BYTES, BodyLimit
from shared.service.http import new_app

TOO_LARGE = b" " * (MAX_BODY_BYTES + 1)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Every span that ends; the provider is the global one for this test only."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(_application(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def _application() -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = new_app("title", "summary", lifespan, {})

    @app.get("/things/{number}")
    async def thing(number: int) -> dict[str, int]:
        return {"thing": number}

    @app.post("/things")
    async def put(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    @app.get("/away")
    async def away() -> None:
        raise StoreUnavailable("locked")

    return app


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/things/1", None, 200),
        ("HEAD", "/things/1", None, 200),
        ("GET", "/things/x", None, 422),
        ("GET", "/nowhere", None, 404),
        ("POST", "/things", TOO_LARGE, 413),
        ("GET", "/away", None, 503),
        ("GET", "/bug", None, 500),
    ],
)
async def test_every_answer_names_the_trace_of_its_one_server_span(
    exporter: InMemorySpanExporter, http: httpx.AsyncClient, method: str, path: str, content: bytes | None, status: int
) -> None:
    answer = await http.request(method, path, content=content)

    assert answer.status_code == status
    (span,) = exporter.get_finished_spans()
    assert span.kind is trace.SpanKind.SERVER
    assert answer.headers.get_list("x-trace-id") == [_trace_id(span)]


async def test_a_body_too_large_that_was_not_announced_is_refused_in_its_trace_too(
    exporter: InMemorySpanExporter, http: httpx.AsyncClient
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MAX_BODY_BYTES // 2)

    answer = await http.post("/things", content=pieces())

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    (span,) = exporter.get_finished_spans()
    assert answer.headers["x-trace-id"] == _trace_id(span)


async def test_probes_have_no_trace(exporter: InMemorySpanExporter, http: httpx.AsyncClient) -> None:
    answers = [await http.get("/health"), await http.get("/ready")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert not any("x-trace-id" in answer.headers for answer in answers)
    assert exporter.get_finished_spans() == ()


async def test_a_body_at_the_limit_is_taken_and_the_connection_kept(http: httpx.AsyncClient) -> None:
    answer = await http.post("/things", content=b" " * MAX_BODY_BYTES)

    assert answer.json() == {"size": MAX_BODY_BYTES}
    assert "connection" not in answer.headers


async def test_head_is_answered_as_get_without_the_body(http: httpx.AsyncClient) -> None:
    for path in ("/things/1", "/health", "/ready", "/openapi.json", "/docs", "/nowhere"):
        head, get = await http.head(path), await http.get(path)

        assert head.status_code == get.status_code
        assert head.headers == get.headers
        assert head.content == b""


async def test_head_of_what_has_no_get_is_not_allowed(http: httpx.AsyncClient) -> None:
    answer = await http.head("/things")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_what_get_allows_head_is_allowed_too(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/things/1")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_the_same_refusal_again_and_again_says_once_that_the_connection_is_closed() -> None:
    exchanges = [await _exchange([TOO_LARGE]) for _ in range(3)]

    for (_, start), *_ in exchanges:
        assert [value for name, value in start["headers"] if name == b"connection"] == [b"close"]


async def test_the_whole_answer_is_sent_before_the_rest_of_the_body_is_read() -> None:
    """What a client needs that stops sending as soon as it is refused."""
    (_, start), (read_before_answer, answer), (read_before_end, end) = await _exchange([b" " * 1000] * 5)

    assert (read_before_answer, read_before_end) == (0, 5000)
    assert len(answer["body"]) == int(dict(start["headers"])[b"content-length"])
    assert answer["more_body"]
    assert end == {"type": "http.response.body"}


async def test_a_body_without_an_end_is_not_read_for_ever() -> None:
    *_, (read, end) = await _exchange([b" " * 1024 * 1024] * 100)

    assert read == body_limit.READ_ON_BYTES
    assert end == {"type": "http.response.body"}


async def test_a_client_that_stalls_in_its_body_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "READ_ON_SECONDS", 0.1)

    async with asyncio.timeout(30):
        *_, (_, end) = await _exchange([TOO_LARGE], stalls=True)

    assert end == {"type": "http.response.body"}


async def _exchange(pieces: list[bytes], *, stalls: bool = False) -> list[tuple[int, Message]]:
    """Send a body that is announced as too large; gives what is sent back, each with the bytes read until then."""
    read = 0
    left = list(pieces)
    sent: list[tuple[int, Message]] = []

    async def receive() -> Message:
        nonlocal read
        if not left:
            await asyncio.Event().wait()
        piece = left.pop()
        read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": stalls or bool(left)}

    async def send(message: Message) -> None:
        sent.append((read, message))

    async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application is not asked")

    await BodyLimit(nobody)({"type": "http", "headers": [(b"content-length", b"999999999")]}, receive, send)
    return sent


def _trace_id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return trace.format_trace_id(context.trace_id)
