"""Declares the topology; what exists already with the same arguments stays as it is."""

import logging
from collections.abc import Collection

from aio_pika import ExchangeType
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from shared.contract.errors import first_line
from shared.contract.topology import ORDERS_EXCHANGE, Queue
from shared.rabbit.connection import Session

_log = logging.getLogger(__name__)


async def declare(session: Session, queues: Collection[Queue]) -> None:
    """Declare the exchange, the queues and their bindings, over a channel that ends with it.

    Where the user may not, it will do that somebody else has declared them.
    """
    try:
        await _declare(session, queues)
    except ChannelAccessRefused as refused:
        if not await _are_there(session, queues):
            raise
        _log.warning("what is declared already is used as it is: %s", first_line(refused))


async def _declare(session: Session, queues: Collection[Queue]) -> None:
    channel = await session.open_channel(publisher_confirms=False)
    session.let_go(channel)  # what the broker refuses here ends the channel, and not always the session
    orders = await channel.declare_exchange(ORDERS_EXCHANGE, ExchangeType.TOPIC, durable=True)
    for queue in queues:
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        if queue.routing_key is not None:
            await declared.bind(orders, queue.routing_key)
    await channel.close()


async def _are_there(session: Session, queues: Collection[Queue]) -> bool:
    channel = await session.open_channel(publisher_confirms=False)
    session.let_go(channel)
    try:
        await channel.declare_exchange(ORDERS_EXCHANGE, passive=True)
        for queue in queues:
            await channel.declare_queue(queue.name, passive=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True
