"""An inventory worker made of aio-pika's RPC pattern and its instrumentation: no stock, nothing stored."""

import asyncio
import os

import aio_pika
import uvloop
from aio_pika.patterns import RPC
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor

from benchmarks.baselines import telemetry


async def check_inventory(order_id: str) -> dict[str, object]:
    return {"order_id": order_id, "in_stock": True}


async def main() -> None:
    telemetry.start("rpc-worker")
    AioPikaInstrumentor().instrument()
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        rpc = await RPC.create(await connection.channel())
        await rpc.register("check_inventory", check_inventory, auto_delete=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
