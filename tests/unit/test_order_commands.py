"""`orders show` prints what an order holds as it is, and `orders` reaches an API whose key is not ASCII, and no other path."""

from typing import Any

import httpx
import pytest
import typer
from fastapi import APIRouter, Depends
from pydantic import SecretStr

from shared.service.api_key import require_key
from shared.service.http import new_app
from shared.tools.commands import order
from shared.tools.commands.options import read_item
from shared.tools.load_generator import Plan, put_load
from shared.tools.order_client import Answer, ApiError, OrderClient

REASON = "[bold]stock[/] of [/nothing] \N{ESCAPE}[2J :smile: [link=x]"


def test_a_reason_with_markup_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OrderClient, "read", lambda *_: Answer(200, {"status": "error", "reason": REASON}, None))

    order.show("O-1")

    assert REASON.replace("\N{ESCAPE}", "\N{MIDDLE DOT}") in capsys.readouterr().out


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://127.0.0.1:99999"])
async def test_an_address_that_makes_no_sense_is_one_sentence(url: str) -> None:
    with pytest.raises(ApiError, match="The order API cannot be reached at"):
        OrderClient(url)
    with pytest.raises(ApiError, match="The order API cannot be reached at"):
        await put_load(url, None, Plan({"widget": 1}, 1, 1.0, 1))


@pytest.mark.parametrize("order_id", ["", "..", "../health", "a/b", "?x", "#", "O-1\n", "ü", "x" * 65])
def test_what_is_no_order_id_is_not_asked_for(order_id: str) -> None:
    with OrderClient("http://127.0.0.1:1") as client, pytest.raises(ApiError, match="is no order id"):
        client.read(order_id)


@pytest.mark.parametrize("body", [{"error": "Object Not Found", "reason": "Not Found"}, [], "ORDER1", None])
def test_a_server_that_answers_with_other_json_is_no_order_api(body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx.Client, "request", lambda *_, **__: httpx.Response(404, json=body))

    with OrderClient("http://127.0.0.1:1") as client, pytest.raises(ApiError, match="is not an order API"):
        client.read("ORDER1")


@pytest.mark.parametrize("text", ["", "=", "=2", "widget=", "widget=-1", "widget=many", "widget=²"])
def test_an_item_is_a_sku_and_a_number_of_units(text: str) -> None:
    assert (read_item("widget"), read_item("widget=2")) == (("widget", 1), ("widget", 2))
    with pytest.raises(typer.BadParameter, match="is not SKU or SKU=QUANTITY"):
        read_item(text)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://x", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_one_sentence_elsewhere_and_no_matter_on_this_machine(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)

    with OrderClient("http://127.0.0.1:8000"), pytest.raises(ApiError, match="The order API cannot be reached at"):
        OrderClient("http://orders.example.com")


@pytest.mark.parametrize("key", ["s3cret\n", "s3\r\ncret", " s3cret", "s3cret\0"])
async def test_a_key_that_no_header_takes_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ApiError, match="no header takes it") as of_client:
        OrderClient("http://127.0.0.1:1", key)
    with pytest.raises(ApiError, match="no header takes it") as of_load:
        await put_load("http://127.0.0.1:1", key, Plan({"widget": 1}, 1, 1.0, 1))

    assert "cret" not in f"{of_client.value}{of_load.value}"


@pytest.mark.parametrize("key", ["s3cret", "schlüssel", "\N{PILE OF POO}"])
async def test_a_key_matches_whatever_letters_it_has(key: str) -> None:
    router = APIRouter()
    router.add_api_route("/guarded", lambda: {"is": "open"}, dependencies=[Depends(require_key)])
    app = new_app("test", "test", None, {}, router, SecretStr(key))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answers = [await client.get("/guarded", headers={b"X-API-Key": text.encode()}) for text in (key, f"{key}x")]

    assert [answer.status_code for answer in answers] == [200, 401]
