"""What has to be published before a delivery may be settled: tried for as long as the delivery is held."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError

from shared.contract.errors import BrokerUnavailable, Refused

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries to publish what has to be out before a delivery may be settled."""

_log = logging.getLogger(__name__)


class NoLongerHeld(BrokerUnavailable):
    """The channel that brought the delivery has ended: the broker hands it out again."""


async def while_held(
    message: AbstractIncomingMessage, publish: Callable[[], Awaitable[None]], *, and_refused: bool = False
) -> None:
    """Publish until it is confirmed, as long as the delivery is held.

    A broker that is away is no failure of the message: trying again here brings it no nearer to any limit.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            await publish()
            return
        except (BrokerUnavailable, Refused) as error:
            if isinstance(error, Refused) and not and_refused:
                raise
            if not _is_held(message):
                raise NoLongerHeld(str(error)) from error
            _log.log(logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG, "tried again while held: %s", error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _is_held(message: AbstractIncomingMessage) -> bool:
    try:
        return not message.channel.is_closed
    except ChannelInvalidStateError:
        return False
