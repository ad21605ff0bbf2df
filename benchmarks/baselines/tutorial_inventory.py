"""The tutorial's inventory service: one HTTP call, no stock, nothing stored."""

import os

import uvicorn
from fastapi import FastAPI

from benchmarks.baselines import telemetry

telemetry.start("inventory-service")
app = FastAPI(telemetry={"operation_spans": False})


@app.get("/inventory/check/{order_id}")
async def check_inventory(order_id: str) -> dict[str, object]:
    return {"order_id": order_id, "in_stock": True}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
