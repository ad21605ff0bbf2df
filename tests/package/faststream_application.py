"""A FastStream application that knows nothing of tracing: a reading of a thermometer raises an alarm."""

import asyncio
import os

from faststream.rabbit import RabbitBroker  # type: ignore[import-not-found] # there only where it is run

broker = RabbitBroker(os.environ["AMQP_URL"])
raised = asyncio.Event()


@broker.subscriber("readings")  # type: ignore[untyped-decorator]
async def check(reading: float) -> None:
    """Raise an alarm where it is too hot."""
    if reading > 30:
        await broker.publish(reading, "alarms")


@broker.subscriber("alarms")  # type: ignore[untyped-decorator]
async def ring(_: float) -> None:
    """Take an alarm."""
    raised.set()


async def main() -> None:
    """Send one reading."""
    async with broker:
        await broker.start()
        await broker.publish(31.5, "readings")
        await asyncio.wait_for(raised.wait(), 30)


if __name__ == "__main__":
    asyncio.run(main())
