"""A FastStream application that knows nothing of tracing: a reading of a thermometer raises an alarm, a broken one an error."""

import asyncio
import os

from faststream.rabbit import RabbitBroker  # type: ignore[import-not-found] # there only where it is run

broker = RabbitBroker(os.environ["AMQP_URL"], logger=None)
raised = asyncio.Event()


@broker.subscriber("readings")  # type: ignore[untyped-decorator]
async def check(reading: float) -> None:
    """Raise an alarm where it is too hot."""
    if reading < -273.15:
        raise ValueError(reading)
    if reading > 30:
        await broker.publish(reading, "alarms")


@broker.subscriber("alarms")  # type: ignore[untyped-decorator]
async def ring(_: float) -> None:
    """Take an alarm."""
    raised.set()


async def main() -> None:
    """Send two readings."""
    async with broker:
        await broker.start()
        await broker.publish(-300.0, "readings")
        await broker.publish(31.5, "readings")
        await asyncio.wait_for(raised.wait(), 30)


if __name__ == "__main__":
    asyncio.run(main())
