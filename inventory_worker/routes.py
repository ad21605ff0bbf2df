"""The HTTP interface of the inventory worker: what is in stock, and restocking."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from inventory_worker.settings import StockLevel
from inventory_worker.stock_store import SqlStockStore
from shared.contract.messages import ID_PATTERN
from shared.service.http import problem, require_key

_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
_NOT_VALID: dict[int | str, dict[str, Any]] = {422: {"description": "the input is not valid", **_PROBLEM}}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "no such SKU", **_PROBLEM}}
_TOO_LARGE: dict[int | str, dict[str, Any]] = {413: {"description": "the body is too large", **_PROBLEM}}
_NOT_ALLOWED: dict[int | str, dict[str, Any]] = {401: {"description": "the API key is missing or wrong", **_PROBLEM}}

router = APIRouter(tags=["inventory"], responses={503: {"description": "the database is not available", **_PROBLEM}})


class LevelIn(BaseModel):
    """A stock level to set."""

    model_config = ConfigDict(extra="forbid")

    available: StockLevel


class Level(BaseModel):
    """How much of a SKU is left."""

    sku: str
    available: int


async def _store(request: Request) -> SqlStockStore:
    store: SqlStockStore = request.state.store
    return store


Store = Annotated[SqlStockStore, Depends(_store)]
Sku = Annotated[str, Path(pattern=ID_PATTERN)]


@router.get("/inventory", response_model=list[Level])
async def read_inventory(store: Store) -> Response:
    """List every stock level."""
    levels = await store.levels()
    return JSONResponse([{"sku": sku, "available": available} for sku, available in levels.items()])


@router.get("/inventory/{sku}", response_model=Level, responses=_NOT_FOUND | _NOT_VALID)
async def read_level(sku: Sku, store: Store) -> Response:
    """Show one stock level."""
    levels = await store.levels()
    if sku not in levels:
        return problem(404, f"there is no SKU {sku}")
    return JSONResponse({"sku": sku, "available": levels[sku]})


@router.put(
    "/inventory/{sku}",
    response_model=Level,
    responses=_NOT_VALID | _TOO_LARGE | _NOT_ALLOWED,
    dependencies=[Depends(require_key)],
)
async def set_level(sku: Sku, level: LevelIn, store: Store) -> Response:
    """Set a stock level, of a SKU known or new."""
    await store.set_level(sku, level.available)
    return JSONResponse({"sku": sku, "available": level.available})
