"""The HTTP interface of the inventory worker: what is in stock, and restocking."""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from inventory_worker.settings import StockLevel
from inventory_worker.stock_store import SqlStockStore
from shared.contract.messages import ID_PATTERN
from shared.service.api_key import require_key
from shared.service.problems import KEY_REQUIRED, NOT_VALID, TOO_LARGE, problem, problem_response

_NOT_FOUND = problem_response(404, "no such SKU")

router = APIRouter(tags=["inventory"], responses=problem_response(503, "the database is not available"))


class Resources(NamedTuple):
    """What the routes need; the application puts it into its state."""

    store: SqlStockStore


def _resources(request: Request) -> Resources:
    resources: Resources = request.state.resources
    return resources


class LevelIn(BaseModel):
    """A stock level to set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    available: StockLevel


class Level(BaseModel):
    """How much of a SKU is left."""

    sku: str
    available: int


Sku = Annotated[str, Path(pattern=ID_PATTERN)]


@router.get("/inventory", response_model=list[Level])
async def read_inventory(request: Request) -> Response:
    """List every stock level."""
    levels = await _resources(request).store.levels()
    return JSONResponse([{"sku": sku, "available": available} for sku, available in levels.items()])


@router.get("/inventory/{sku}", response_model=Level, responses=_NOT_FOUND | NOT_VALID)
async def read_level(sku: Sku, request: Request) -> Response:
    """Show one stock level."""
    levels = await _resources(request).store.levels()
    if sku not in levels:
        return problem(404, f"there is no SKU {sku}")
    return JSONResponse({"sku": sku, "available": levels[sku]})


@router.put(
    "/inventory/{sku}",
    response_model=Level,
    responses=NOT_VALID | TOO_LARGE | KEY_REQUIRED,
    dependencies=[Depends(require_key)],
)
async def set_level(sku: Sku, level: LevelIn, request: Request) -> Response:
    """Set a stock level, of a SKU known or new."""
    await _resources(request).store.set_level(sku, level.available)
    return JSONResponse({"sku": sku, "available": level.available})
