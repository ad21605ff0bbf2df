"""The tutorial's order service: a new HTTP client for every order."""

import os

import httpx
import uvicorn
from fastapi import FastAPI
from opentelemetry import propagate, trace

from benchmarks.baselines import telemetry

telemetry.start("order-service")
app = FastAPI(telemetry={"operation_spans": False})
tracer = trace.get_tracer("tutorial")


@app.post("/orders/create")
async def create_order(order_id: str) -> dict[str, str]:
    with tracer.start_as_current_span("inventory_request", kind=trace.SpanKind.CLIENT):
        headers: dict[str, str] = {}
        propagate.inject(headers)
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"{os.environ['INVENTORY_URL']}/inventory/check/{order_id}"
            answer = (await client.get(url, headers=headers, timeout=5.0)).json()
    return {"status": "success" if answer["in_stock"] else "out_of_stock", "order_id": order_id}


@app.get("/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
