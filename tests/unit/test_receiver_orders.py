"""The order form and the event streams of the receiver: who may post, what comes back, and what is bounded."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.browser.embedded_receiver import (
    AUTH,
    INGEST,
    PROTOBUF,
    SETTINGS,
    hex_id,
    running,
    serving,
    spans_of,
    wait_for,
)
from tests.environment import plain_environment

OWN_PAGE = {"sec-fetch-site": "same-origin"}
FORM = {"sku": "widget", "quantity": "2", "order_id": "o-1"}


class OrderApi:
    """An order API that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str | None]] = []
        self.answer = JSONResponse({"order_id": "o-1"}, 201, {"x-trace-id": hex_id(1)})
        self.seconds = 0.0

    async def create(self, request: Request) -> Response:
        self.asked.append((json.loads(await request.body()), request.headers.get("x-api-key")))
        await asyncio.sleep(self.seconds)
        return self.answer


@pytest.fixture
def api() -> OrderApi:
    return OrderApi()


@pytest.fixture
def api_url(api: OrderApi) -> Iterator[str]:
    with serving(Starlette(routes=[Route("/orders", api.create, methods=["POST"])])) as url:
        yield url


@pytest.fixture
def url(api_url: str) -> Iterator[str]:
    with running(replace(SETTINGS, order_api_url=api_url, order_api_key="secret", order_seconds=0.5)) as url:
        yield url


# --- the order form -------------------------------------------------------------------------------------------------


def test_an_order_is_passed_on_and_its_trace_opened(url: str, api: OrderApi) -> None:
    answer = httpx.post(f"{url}/orders", data=FORM, headers=OWN_PAGE)

    assert (answer.status_code, answer.headers["location"]) == (303, f"/traces/{hex_id(1)}?placed=o-1")
    assert api.asked == [({"items": [{"sku": "widget", "quantity": 2}], "order_id": "o-1"}, "secret")]


def test_a_key_that_is_not_ascii_is_sent_as_a_service_reads_it(api_url: str, api: OrderApi) -> None:
    with running(replace(SETTINGS, order_api_url=api_url, order_api_key="schlüssel")) as alone:
        httpx.post(f"{alone}/orders", data=FORM, headers=OWN_PAGE)

    key = api.asked[0][1]
    assert key is not None
    assert key.encode("latin-1").decode() == "schlüssel"


@pytest.mark.parametrize("key", ["two\nlines", " spaced"])
def test_a_key_that_no_header_takes_is_refused_at_the_start_and_not_told(key: str) -> None:
    command = [sys.executable, "-m", "shared.tools.receiver", "--user", AUTH[0], "--password", AUTH[1]]

    ended = subprocess.run(
        command, env=plain_environment(ORDER_API_KEY=key, COLUMNS="200"), capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 2
    assert "no header takes it" in " ".join(ended.stderr.replace("│", " ").split())
    assert key not in ended.stderr


def test_the_order_id_may_be_left_to_the_api(url: str, api: OrderApi) -> None:
    httpx.post(f"{url}/orders", data=FORM | {"order_id": ""}, headers=OWN_PAGE)

    assert api.asked[0][0] == {"items": [{"sku": "widget", "quantity": 2}]}


def test_a_refusal_is_shown_with_its_reason_and_what_was_filled_in(url: str, api: OrderApi) -> None:
    api.answer = JSONResponse({"detail": "order o-1 was placed before"}, 409, {"x-trace-id": hex_id(1)})

    answer = httpx.post(f"{url}/orders", data=FORM | {"sku": 'gad"get'}, headers=OWN_PAGE)

    assert answer.status_code == 409
    assert "refused the order with 409: order o-1 was placed before" in answer.text
    assert f'href="/traces/{hex_id(1)}"' in answer.text
    assert 'value="gad&quot;get"' in answer.text


@pytest.mark.parametrize("quantity", ["", "many", "-1", "1.5", "٣", "9" * 30])
def test_a_quantity_that_is_no_number_is_not_passed_on(url: str, api: OrderApi, quantity: str) -> None:
    answer = httpx.post(f"{url}/orders", data=FORM | {"quantity": quantity}, headers=OWN_PAGE)

    assert answer.status_code == 422
    assert "whole number" in answer.text
    assert api.asked == []


@pytest.mark.parametrize("trace_id", [None, "//evil.example", "xyz"])
def test_an_untraced_order_leads_nowhere_else(url: str, api: OrderApi, trace_id: str | None) -> None:
    api.answer = JSONResponse({"order_id": "o-1"}, 201, {"x-trace-id": trace_id} if trace_id else {})

    answer = httpx.post(f"{url}/orders", data=FORM, headers=OWN_PAGE)

    assert answer.status_code == 200
    assert "traces nothing" in answer.text


def test_an_order_api_that_is_slow_or_away_is_named(url: str, api: OrderApi) -> None:
    api.seconds = 2.0

    slow = httpx.post(f"{url}/orders", data=FORM, headers=OWN_PAGE)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with running(replace(SETTINGS, order_api_url=nobody)) as alone:
        away = httpx.post(f"{alone}/orders", data=FORM, headers=OWN_PAGE)

    assert slow.status_code == 504
    assert "did not answer within 0.5 s" in slow.text
    assert away.status_code == 502
    assert f"There is no order API at {nobody}" in away.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://[oops"},
    ],
)
def test_no_other_site_can_place_an_order(url: str, api: OrderApi, headers: dict[str, str]) -> None:
    assert httpx.post(f"{url}/orders", data=FORM, headers=headers).status_code == 403
    assert api.asked == []


def test_a_browser_that_names_only_the_origin_may_post(url: str) -> None:
    assert httpx.post(f"{url}/orders", data=FORM, headers={"origin": url}).status_code == 303


def test_a_form_of_another_kind_or_size_is_refused(url: str) -> None:
    assert httpx.post(f"{url}/orders", json=FORM, headers=OWN_PAGE).status_code == 415
    assert httpx.post(f"{url}/orders", data={"sku": "x" * 5000}, headers=OWN_PAGE).status_code == 413


def test_without_an_order_api_there_is_no_form(url: str) -> None:
    assert 'action="/orders"' in httpx.get(url).text
    with running() as alone:
        assert 'action="/orders"' not in httpx.get(alone).text
        assert httpx.post(f"{alone}/orders", data=FORM, headers=OWN_PAGE).status_code == 404


# --- the event streams ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(url: str, path: str, seen: str) -> AsyncIterator[AsyncIterator[str]]:
    async with httpx.AsyncClient(timeout=10) as client, client.stream("GET", f"{url}{path}?seen={seen}") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (line async for line in answer.aiter_lines() if line.startswith("data: "))


async def export(url: str, number: int, *links_to: int) -> None:
    content = spans_of(number, links_to=links_to).SerializeToString()
    async with httpx.AsyncClient(auth=AUTH) as client:
        assert (await client.post(f"{url}{INGEST}", content=content, headers=PROTOBUF)).status_code == 200


async def test_the_list_hears_of_every_arrival() -> None:
    with running() as url:
        async with listening(url, "/live", seen="0") as events:
            await export(url, 1)
            assert await anext(events) == "data: 1"
            await export(url, 2)
            assert await anext(events) == "data: 2"


async def test_what_arrived_before_the_stream_was_opened_is_told_too() -> None:
    with running() as url:
        await export(url, 1)
        async with listening(url, "/live", seen="0") as events:
            assert await anext(events) == "data: 1"


async def test_a_trace_hears_of_its_own_spans_and_of_links_into_it_only() -> None:
    with running() as url:
        async with listening(url, f"/traces/{hex_id(1)}/live", seen="0.0.0") as events:
            await export(url, 3)
            await export(url, 1)
            assert await anext(events) == "data: 1.0.0"
            await export(url, 2, 1)
            assert await anext(events) == "data: 1.1.0"


async def test_streams_are_bounded_and_a_closed_page_makes_room() -> None:
    with running(replace(SETTINGS, max_live=1)) as url, httpx.Client() as client:
        async with listening(url, "/live", seen="0"):
            refused = client.get(f"{url}/live")

        def opened() -> bool | None:
            with client.stream("GET", f"{url}/live") as answer:
                return answer.status_code == 200 or None

        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert await asyncio.to_thread(wait_for, opened)


def test_the_process_ends_at_once_although_a_page_is_live(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "shared.tools.receiver", "--port-file", str(port_file)]
    command += ["--user", AUTH[0], "--password", AUTH[1], "--order-api-url", "http://127.0.0.1:9"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output)

    try:
        port = wait_for(lambda: port_file.read_text() if port_file.exists() else None, seconds=30)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            assert 'action="/orders"' in client.get("/").text
            with client.stream("GET", "/live") as answer:
                lines = answer.iter_lines()
                assert next(lines) == "retry: 2000"
                process.send_signal(signal.SIGTERM)
                assert list(lines)[-1:] == [""]
            assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
    assert "ERROR" not in log.read_text()
