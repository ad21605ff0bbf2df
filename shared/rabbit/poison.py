"""What becomes of a delivery that holds no message to work with, on any queue: it is put aside, and nobody else notices."""

import logging

from aio_pika.abc import AbstractIncomingMessage

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable
from shared.rabbit.decoding import defect_of
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.settle import DeliveryOutcome
from shared.tracing import deliveries as told

_log = logging.getLogger(__name__)


async def put_aside(delivery: AbstractIncomingMessage, queue: str) -> bool:
    """Settle a delivery that holds no message to work with, and tell whether it was one; any other is left alone.

    It is rejected: the broker makes it a dead letter, whole and with no more reason than `rejected`, where its queue names a
    place for these, and drops it elsewhere. So its reason is told here: on the span, in the log, in a metric.
    """
    defect = defect_of(delivery)
    if defect is None:
        return False
    source = topology.destination_template(queue) or queue
    told.put_aside(source, DeliveryOutcome.DEAD_LETTER, defect.code, defect.detail)
    _log.error("a message from %s is put aside: %s", source, defect)
    try:
        with losses_as_errors():
            await delivery.reject(requeue=False)
    except BrokerUnavailable:
        _log.info("a delivery's channel is gone before it was put aside: it will be delivered again")
    return True
