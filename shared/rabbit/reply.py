"""The reply to a check: to the queue that its asker names, or where that is gone to the one that all instances share."""

import logging

from shared.contract import envelope as envelopes
from shared.contract import topology
from shared.contract.envelope import Envelope
from shared.contract.errors import Unroutable
from shared.contract.messages import CheckDelayed, InventoryDecision
from shared.rabbit.publisher import Publisher
from shared.tracing.deliveries import withheld

Told = InventoryDecision | CheckDelayed

_log = logging.getLogger(__name__)


async def reply(publisher: Publisher, asked: Envelope, told: Told, trusted: tuple[str, ...]) -> None:
    """Reply, confirmed, where the check names a queue for replies; raises what the publisher raises."""
    if asked.reply_to is None:
        return
    if not asked.reply_to.startswith(trusted):
        # It may be anybody's queue, our own for checks too: a stranger's word is not enough to write into it.
        _log.warning("no reply to a queue that is none for replies", extra={"order_id": asked.correlation_id})
        withheld()
        return
    try:
        await _send(publisher, asked.reply_to, asked, told)
    except Unroutable:
        # The instance that asked is gone, but its order is not: another instance takes the reply.
        if not asked.reply_to.startswith(topology.REPLY_QUEUE_PREFIX):
            raise
        await _send(publisher, topology.SHARED_REPLIES, asked, told)


async def _send(publisher: Publisher, queue: str, asked: Envelope, told: Told) -> None:
    message = envelopes.message(
        told.encode(), type=told.TYPE, correlation_id=asked.correlation_id, asked_at=asked.published_at
    )
    # The broker returns what goes by direct reply-to as unroutable, and delivers it: https://www.rabbitmq.com/docs/direct-reply-to
    is_queue = not queue.startswith(topology.DIRECT_REPLY_PREFIX)
    await publisher.publish("", queue, message, is_mandatory=is_queue)
