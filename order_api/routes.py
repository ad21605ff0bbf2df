"""The HTTP interface of the order API."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from order_api.checks import Checks
from order_api.order_store import SqlOrderStore
from order_api.orders import Order, Placement, PlacementKind, merged, place_order
from order_api.replies import Replies
from order_api.schemas import OrderIn, OrderOut, TutorialAnswer
from order_api.settings import Settings
from shared.contract.messages import ID_PATTERN, Identifier, Item
from shared.service.api_key import require_key
from shared.service.problems import (
    KEY_REQUIRED,
    NOT_VALID,
    TOO_LARGE,
    Responses,
    problem,
    problem_response,
)
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import carry, trace_id_of
from shared.tracing import orders as told

TRACE_WINDOW_SECONDS = 3600


class Resources(NamedTuple):
    """What the routes need; the application puts it into its state."""

    settings: Settings
    telemetry: TelemetrySettings
    store: SqlOrderStore
    checks: Checks
    replies: Replies


def _resources(request: Request) -> Resources:
    resources: Resources = request.state.resources
    return resources


_LOCATION: dict[str, Any] = {
    "headers": {"Location": {"description": "where the order is read", "required": True, "schema": {"type": "string"}}}
}
_PLACING: Responses = {
    202: {"description": "accepted, not decided yet: follow `Location`", "model": OrderOut, **_LOCATION},
    **KEY_REQUIRED,
    **problem_response(409, "the order id is taken by an order with other items"),
    **TOO_LARGE,
    **NOT_VALID,
    **problem_response(503, "the order could not be stored"),
}

router = APIRouter(tags=["orders"])


@router.post(
    "/orders",
    status_code=201,
    response_model=OrderOut,
    responses={
        200: {"description": "this order was placed before", "model": OrderOut},
        201: {"description": "placed and decided", **_LOCATION},
        **_PLACING,
    },
    dependencies=[Depends(require_key)],
)
async def create_order(body: OrderIn, request: Request) -> Response:
    """Place an order and wait for the decision of the inventory, but no longer than the reply timeout."""
    resources = _resources(request)
    placement = await _place(resources, body.id_or_new, body.items, body)
    order = placement.order
    if placement.kind is PlacementKind.CONFLICT:
        return _conflict(order)
    answer = _show(order, resources)
    if not order.is_decided:
        return JSONResponse(answer, 202, _location(order))
    if placement.kind is PlacementKind.REPEATED:
        return JSONResponse(answer)
    return JSONResponse(answer, 201, _location(order))


@router.post(
    "/orders/create",
    response_model=TutorialAnswer,
    responses={**_PLACING, 202: {"description": "accepted, not decided yet", "model": TutorialAnswer, **_LOCATION}},
    dependencies=[Depends(require_key)],
)
async def create_order_by_id(order_id: Annotated[Identifier, Query(examples=["ORDER1"])], request: Request) -> Response:
    """Place an order for one unit of the default SKU, named by its id alone."""
    resources = _resources(request)
    placement = await _place(resources, order_id, [Item(sku=resources.settings.default_sku, quantity=1)], None)
    order = placement.order
    if placement.kind is PlacementKind.CONFLICT:
        return _conflict(order)
    answer = TutorialAnswer(status=order.status, order_id=order.order_id).model_dump(mode="json")
    if not order.is_decided:
        return JSONResponse(answer, 202, _location(order))
    return JSONResponse(answer)


@router.get(
    "/orders/{order_id}",
    response_model=OrderOut,
    responses={**problem_response(404, "no such order"), 503: _PLACING[503], **NOT_VALID},
)
async def read_order(order_id: Annotated[str, Path(pattern=ID_PATTERN)], request: Request) -> Response:
    """Show an order: its status, why, when, and its trace."""
    resources = _resources(request)
    order = await resources.store.get(order_id)
    if order is None:
        return problem(404, f"there is no order {order_id}")
    return JSONResponse(_show(order, resources))


async def _place(resources: Resources, order_id: str, items: Sequence[Item], body: OrderIn | None) -> Placement:
    order = Order(
        order_id=order_id,
        items=merged(items),
        customer=None if body is None else body.to_customer(),
        created_at=time.time(),
        traceparent=carry(),
        placement_id=uuid.uuid4().hex,
    )
    told.describe_order(order_id)
    deadline = asyncio.get_running_loop().time() + resources.settings.reply_timeout
    placement = await place_order(order, resources.store, resources.checks, resources.replies, deadline)
    stored = placement.order
    told.describe_order(order_id, stored.status, stored.reason)
    placed_before_in = None if placement.kind is PlacementKind.NEW else stored.traceparent
    told.placed(placement.kind, stored.status, placement.deferred, placed_before_in)
    return placement


def _location(order: Order) -> dict[str, str]:
    return {"Location": f"/orders/{order.order_id}"}


def _conflict(order: Order) -> Response:
    return problem(409, f"order {order.order_id} was placed before, with other items")


def _show(order: Order, resources: Resources) -> dict[str, object]:
    trace_id = trace_id_of(order.traceparent)
    kept, trace_url = trace_id_of(order.traceparent, if_kept=True), None
    if kept is not None:
        placed_at = int(order.created_at * 1_000_000)
        window = TRACE_WINDOW_SECONDS * 1_000_000
        trace_url = resources.telemetry.trace_url(kept, placed_at - window // 60, placed_at + window)
    return OrderOut.of(order, trace_id, trace_url).model_dump(mode="json")
