"""Declares the topology; what exists already with the same arguments stays as it is."""

from collections.abc import Iterable

from aio_pika import ExchangeType

from shared.contract.topology import ORDERS_EXCHANGE, Queue
from shared.rabbit.connection import Session


async def declare(session: Session, queues: Iterable[Queue]) -> None:
    """Declare the exchange, the queues and their bindings, over a channel that ends with it."""
    channel = await session.open_channel(publisher_confirms=False)
    orders = await channel.declare_exchange(ORDERS_EXCHANGE, ExchangeType.TOPIC, durable=True)
    for queue in queues:
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        if queue.routing_key is not None:
            await declared.bind(orders, queue.routing_key)
    session.let_go(channel)
    await channel.close()
