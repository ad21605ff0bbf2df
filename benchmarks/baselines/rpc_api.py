"""An order API made of FastAPI and aio-pika's RPC pattern with its instrumentation."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import uvicorn
from aio_pika.patterns import RPC
from fastapi import FastAPI, Request
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor

from benchmarks.baselines import telemetry

telemetry.start("rpc-api")
AioPikaInstrumentor().instrument()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, RPC]]:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        yield {"rpc": await RPC.create(await connection.channel())}


app = FastAPI(lifespan=lifespan, telemetry={"operation_spans": False})


@app.post("/orders/create")
async def create_order(order_id: str, request: Request) -> dict[str, str]:
    answer = await request.state.rpc.call("check_inventory", {"order_id": order_id})
    return {"status": "success" if answer["in_stock"] else "out_of_stock", "order_id": order_id}


@app.get("/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
