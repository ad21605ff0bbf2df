"""What the order form leads to: the trace of the order that it placed, or why it was not placed."""

import re
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shared.tools.receiver.document import document
from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.order_form import Entry, Placed, place, read_form, render_form, require_same_origin
from shared.tools.receiver.receiver_settings import ReceiverSettings

_TRACE_ID = re.compile("[0-9a-f]{32}")


def placing_route(settings: ReceiverSettings) -> Route:
    """The path that the form is sent to."""

    async def place_order(request: Request) -> Response:
        require_same_origin(request)
        entry = await read_form(request)
        placed = await place(entry, settings)
        if placed.problem is None and placed.trace_id and _TRACE_ID.fullmatch(placed.trace_id):
            return RedirectResponse(f"/traces/{placed.trace_id}?{urlencode({'placed': placed.order_id})}", 303)
        return document(
            "Order not placed" if placed.problem else "Order placed", _answer(placed, entry), status=_status(placed)
        )

    return Route("/orders", place_order, methods=["POST"])


def _answer(placed: Placed, entry: Entry) -> Markup:
    trace = None
    if placed.trace_id and _TRACE_ID.fullmatch(placed.trace_id):
        trace = element("p", element("a", "The trace of this attempt", href=f"/traces/{placed.trace_id}"))
    if placed.problem is None:
        told = element("p", f"Order {placed.order_id} is placed, but the order API traces nothing.", role="status")
    else:
        told = element("p", placed.problem, role="alert", class_="problem")
    return fragment(
        element("h1", "Order not placed" if placed.problem else "Order placed"), told, trace, render_form(entry)
    )


def _status(placed: Placed) -> int:
    """The order API's refusal, or that something is wrong with it."""
    if placed.problem is None:
        return 200
    return placed.status if 400 <= placed.status < 600 else 502
