"""A plain aio-pika application that knows nothing of tracing: parcels are scanned, news spread, a job got, a question put."""

import asyncio
import os

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.patterns import JsonRPC

handled: asyncio.Queue[str] = asyncio.Queue()


async def read(message: AbstractIncomingMessage) -> None:
    """Take news, dead letters and what is done."""
    async with message.process():
        handled.put_nowait(message.exchange or "done")


async def price(*, weight: int) -> int:
    """Answer a question."""
    return weight * 3


async def scan(queue: aio_pika.abc.AbstractQueue) -> None:
    """Take three parcels, one of which is damaged."""
    async with queue.iterator() as parcels:
        async for parcel in parcels:
            if parcel.body == b"damaged":
                await parcel.reject()
            else:
                await parcel.ack()
            handled.put_nowait("parcels")


async def main() -> None:
    """Run through it all once."""
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        parcels = await channel.declare_exchange("parcels", "topic")
        damaged = await channel.declare_exchange("damaged", "fanout")
        scans = await channel.declare_queue("parcel-scans", arguments={"x-dead-letter-exchange": "damaged"})
        await scans.bind(parcels, "parcel.*.scanned")
        claims = await channel.declare_queue("claims")
        await claims.bind(damaged)
        await claims.consume(read)
        news = await channel.declare_exchange("news", "fanout")
        for name in ("readers", None):
            readers = await channel.declare_queue(name, exclusive=name is None)
            await readers.bind(news)
            await readers.consume(read)
        await (await channel.declare_queue("done")).consume(read)
        jobs = await channel.declare_queue("jobs")
        scanning = asyncio.create_task(scan(scans))

        for number, state in enumerate((b"fine", b"damaged", b"fine")):
            await parcels.publish(aio_pika.Message(state), f"parcel.{4711 + number}.scanned")
        for _ in range(2):
            await news.publish(aio_pika.Message(b"read all about it"), "")
        await channel.default_exchange.publish(aio_pika.Message(b"paint"), "jobs")
        job = await jobs.get()
        await channel.default_exchange.publish(aio_pika.Message(b"painted"), "done")
        await job.ack()
        rpc = await JsonRPC.create(channel)
        await rpc.register("price", price, auto_delete=True)
        assert await rpc.call("price", {"weight": 7}) == 21

        for _ in range(3 + 4 + 1 + 1):
            await asyncio.wait_for(handled.get(), 30)
        scanning.cancel()
        await asyncio.gather(scanning, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
