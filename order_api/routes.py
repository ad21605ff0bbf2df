"""The HTTP interface of the order API."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from order_api.inventory_client import InventoryClient
from order_api.order_store import SqlOrderStore
from order_api.orders import Order, Outcome, Placement, merged, place_order
from order_api.schemas import OrderIn, OrderOut, TutorialAnswer
from order_api.settings import Settings
from shared.contract.messages import ID_PATTERN, Identifier, Item
from shared.service.http import problem, require_key
from shared.service.providers import TelemetrySettings
from shared.telemetry.trace_context import current_traceparent, trace_id_of
from shared.tracing import instruments as metrics

TRACE_WINDOW_SECONDS = 3600


class Context(NamedTuple):
    """What the routes need; the application puts it into its state."""

    settings: Settings
    telemetry: TelemetrySettings
    store: SqlOrderStore
    inventory: InventoryClient


def _context(request: Request) -> Context:
    context: Context = request.state.context
    return context


_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
_PLACING: dict[int | str, dict[str, Any]] = {
    202: {"description": "accepted, not decided yet: follow `Location`", "model": OrderOut},
    401: {"description": "the API key is missing or wrong", **_PROBLEM},
    409: {"description": "the order id is taken by an order with other items", **_PROBLEM},
    413: {"description": "the body is too large", **_PROBLEM},
    422: {"description": "the input is not valid", **_PROBLEM},
    503: {"description": "the order could not be stored", **_PROBLEM},
}

router = APIRouter(tags=["orders"])


@router.post(
    "/orders",
    status_code=201,
    response_model=OrderOut,
    responses={200: {"description": "this order was placed before", "model": OrderOut}, **_PLACING},
    dependencies=[Depends(require_key)],
)
async def create_order(body: OrderIn, request: Request) -> Response:
    """Place an order and wait for the decision of the inventory, but no longer than the reply timeout."""
    context = _context(request)
    placement = await _place(context, body.id_or_new, body.items, body)
    if placement.outcome is Outcome.CONFLICT:
        return _conflict(placement.order)
    answer = _show(placement.order, context)
    if not placement.order.is_decided:
        return JSONResponse(answer, 202, {"Location": f"/orders/{placement.order.order_id}"})
    return JSONResponse(answer, 201 if placement.outcome is Outcome.NEW else 200)


@router.post(
    "/orders/create",
    response_model=TutorialAnswer,
    responses={**_PLACING, 202: {"description": "accepted, not decided yet", "model": TutorialAnswer}},
    dependencies=[Depends(require_key)],
)
async def create_order_by_id(order_id: Annotated[Identifier, Query(examples=["ORDER1"])], request: Request) -> Response:
    """Place an order for one unit of the default SKU, named by its id alone."""
    context = _context(request)
    placement = await _place(context, order_id, [Item(sku=context.settings.default_sku, quantity=1)], None)
    order = placement.order
    if placement.outcome is Outcome.CONFLICT:
        return _conflict(order)
    answer = TutorialAnswer(status=order.status, order_id=order.order_id).model_dump(mode="json")
    if not order.is_decided:
        return JSONResponse(answer, 202, {"Location": f"/orders/{order.order_id}"})
    return JSONResponse(answer)


@router.get(
    "/orders/{order_id}",
    response_model=OrderOut,
    responses={404: {"description": "no such order", **_PROBLEM}, 503: _PLACING[503], 422: _PLACING[422]},
)
async def read_order(order_id: Annotated[str, Path(pattern=ID_PATTERN)], request: Request) -> Response:
    """Show an order: its status, why, when, and its trace."""
    context = _context(request)
    order = await context.store.get(order_id)
    if order is None:
        return problem(404, f"there is no order {order_id}")
    return JSONResponse(_show(order, context))


async def _place(context: Context, order_id: str, items: Sequence[Item], body: OrderIn | None) -> Placement:
    order = Order(
        order_id=order_id,
        items=merged(items),
        customer=None if body is None else body.to_customer(),
        created_at=time.time(),
        traceparent=current_traceparent(),
    )
    placement = await place_order(order, context.store, context.inventory, context.settings.reply_timeout)
    metrics.placed.add(1, {"outcome": placement.outcome.name.lower(), "status": placement.order.status.value})
    return placement


def _conflict(order: Order) -> Response:
    return problem(409, f"order {order.order_id} was placed before, with other items")


def _show(order: Order, context: Context) -> dict[str, object]:
    trace_id = trace_id_of(order.traceparent)
    trace_url = None
    if trace_id is not None:
        placed_at = int(order.created_at * 1_000_000)
        window = TRACE_WINDOW_SECONDS * 1_000_000
        trace_url = context.telemetry.trace_url(trace_id, placed_at - window // 60, placed_at + window)
    return OrderOut.of(order, trace_id, trace_url).model_dump(mode="json")
