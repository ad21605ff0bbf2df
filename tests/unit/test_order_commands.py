"""`orders show` prints what an order holds as it is, and `orders` reaches an API whose key is not ASCII."""

import httpx
import pytest
from fastapi import APIRouter, Depends
from pydantic import SecretStr

from shared.service.api_key import require_key
from shared.service.http import new_app
from shared.tools.commands import order
from shared.tools.order_client import Answer, ApiError, OrderClient

REASON = "[bold]stock[/] of [/nothing] \N{ESCAPE}[2J :smile: [link=x]"


def test_a_reason_with_markup_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OrderClient, "read", lambda *_: Answer(200, {"status": "error", "reason": REASON}, None))

    order.show("O-1")

    assert REASON.replace("\N{ESCAPE}", "\N{MIDDLE DOT}") in capsys.readouterr().out


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port"])
def test_an_address_that_makes_no_sense_is_one_sentence(url: str) -> None:
    with pytest.raises(ApiError, match="The order API cannot be reached at"):
        OrderClient(url)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://x", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_one_sentence_elsewhere_and_no_matter_on_this_machine(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)

    with OrderClient("http://127.0.0.1:8000"), pytest.raises(ApiError, match="The order API cannot be reached at"):
        OrderClient("http://orders.example.com")


@pytest.mark.parametrize("key", ["s3cret", "schlüssel", "\N{PILE OF POO}"])
async def test_a_key_matches_whatever_letters_it_has(key: str) -> None:
    router = APIRouter()
    router.add_api_route("/guarded", lambda: {"is": "open"}, dependencies=[Depends(require_key)])
    app = new_app("test", "test", None, {}, router, SecretStr(key))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answers = [await client.get("/guarded", headers={b"X-API-Key": text.encode()}) for text in (key, f"{key}x")]

    assert [answer.status_code for answer in answers] == [200, 401]
