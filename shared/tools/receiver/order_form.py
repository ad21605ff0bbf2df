"""A form that places an order: posted to the receiver, which passes it on to the order API.

Only pages of the receiver itself may post it: another site's page could otherwise place orders from the browser of
whoever visits it.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from starlette.exceptions import HTTPException
from starlette.requests import Request

from shared.tools.order_client import key_headers
from shared.tools.receiver.markup import Markup, element
from shared.tools.receiver.receiver_settings import ReceiverSettings

_MOST_BYTES = 4_096
_TRACE_ID_HEADER = "x-trace-id"


@dataclass(frozen=True, slots=True)
class Entry:
    """What was filled in."""

    sku: str = "widget"
    quantity: str = "1"
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """What the order API answered; `problem` says why the order was refused."""

    order_id: str
    trace_id: str | None
    status: int
    problem: str | None = None


def require_same_origin(request: Request) -> None:
    """Raises HTTPException 403 unless a page of this receiver sent the request."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    is_own = site == "same-origin" if site is not None else _host(origin) == request.headers.get("host")
    if not is_own:
        raise HTTPException(403, "orders are placed from the receiver's own page")


async def read_form(request: Request) -> Entry:
    """What the form was filled with. Raises HTTPException 413 or 415."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "the form is sent as application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"the form is larger than {_MOST_BYTES} bytes")
    fields = parse_qs(body.decode("latin-1"), errors="replace")
    sku, quantity, order_id = (fields.get(name, [""])[0].strip() for name in ("sku", "quantity", "order_id"))
    return Entry(sku, quantity, order_id)


async def place(entry: Entry, settings: ReceiverSettings) -> Placed:
    """Places the order and waits for the answer, but no longer than `settings.order_seconds`."""
    url = settings.order_api_url or ""
    if not (entry.quantity.isascii() and entry.quantity.isdecimal() and len(entry.quantity) < 10):
        return Placed(entry.order_id, None, 422, "The quantity must be a whole number.")
    item = {"sku": entry.sku, "quantity": int(entry.quantity)}
    order = {"items": [item]} | ({"order_id": entry.order_id} if entry.order_id else {})
    try:
        # httpx bounds each step; the whole is bounded here. A proxy of the environment would not find this machine.
        async with (
            asyncio.timeout(settings.order_seconds),
            httpx.AsyncClient(trust_env=False, timeout=settings.order_seconds) as client,
        ):
            answer = await client.post(
                f"{url.rstrip('/')}/orders", json=order, headers=key_headers(settings.order_api_key)
            )
    except (TimeoutError, httpx.TimeoutException):
        return Placed(
            entry.order_id, None, 504, f"The order API at {url} did not answer within {settings.order_seconds:g} s."
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return Placed(entry.order_id, None, 502, f"There is no order API at {url}; is it running?")
    return _placed(entry, answer)


def render_form(entry: Entry) -> Markup:
    """The form, filled with an entry."""
    suggestions = element("datalist", *(element("option", value=sku) for sku in ("widget", "gadget")), id="skus")
    return element(
        "form",
        _field("SKU", name="sku", value=entry.sku, list="skus", required=True, maxlength=64),
        _field("Quantity", name="quantity", value=entry.quantity, type="number", min=1, required=True),
        _field("Order id", name="order_id", value=entry.order_id, placeholder="made for you", maxlength=64),
        element("button", "Place order", class_="primary"),
        suggestions,
        method="post",
        action="/orders",
        class_="order",
        autocomplete="off",
    )


def _field(label: str, **attributes: str | int | bool) -> Markup:
    return element("label", element("span", label), element("input", **attributes))


def _placed(entry: Entry, answer: httpx.Response) -> Placed:
    try:
        body: Any = answer.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    problem = None
    if not answer.is_success:
        detail = body.get("detail") or "without a reason"
        problem = f"The order API refused the order with {answer.status_code}: {detail}"
    order_id = str(body.get("order_id") or entry.order_id)
    return Placed(order_id, answer.headers.get(_TRACE_ID_HEADER), answer.status_code, problem)


def _host(origin: str | None) -> str | None:
    try:
        return urlsplit(origin or "").netloc or None
    except ValueError:
        return None
