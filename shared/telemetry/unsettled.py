"""Deliveries that nobody has settled as their callback returns, and those that were pulled: by channel and tag.

So a settlement of many reaches all that it settles, and the end of a channel all that nobody can settle any more.
"""

from asyncio import Future
from collections import deque
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError

from .open_delivery import OpenDelivery

_MOST_REMEMBERED = 8


class _Channel:
    def __init__(self) -> None:
        self.deliveries: WeakValueDictionary[int, OpenDelivery] = WeakValueDictionary()
        self.settled: deque[tuple[int, str]] = deque(maxlen=_MOST_REMEMBERED)
        """The last settlements of many, for callbacks that were at work on one of these meanwhile: tag and outcome."""

    def on_closed(self, closing: "Future[Any]") -> None:
        if not closing.cancelled():
            closing.exception()  # asked for by nobody else, and asyncio would say so
        for delivery in list(self.deliveries.values()):
            delivery.lose()


class Unsettled:
    """What is open on each channel; messages hold their deliveries, so that one that is gone is not here either."""

    def __init__(self) -> None:
        self._channels: WeakKeyDictionary[Any, _Channel] = WeakKeyDictionary()

    def add(self, message: AbstractIncomingMessage, delivery: OpenDelivery) -> None:
        """Watch a delivery; what has been settled with others meanwhile, or never can be, is told so at once."""
        tag = message.delivery_tag
        if (channel := self._channel_of(message)) is None or tag is None:
            delivery.lose()
            return
        for up_to, outcome in channel.settled:
            if tag <= up_to:
                delivery.settle(outcome)
                return
        channel.deliveries[tag] = delivery

    def settle_up_to(self, message: AbstractIncomingMessage, outcome: str) -> None:
        """Say of all that a settlement of many has settled how that was."""
        tag = message.delivery_tag
        if (channel := self._channel_of(message)) is None or tag is None:
            return
        channel.settled.append((tag, outcome))
        for each in [each for each in channel.deliveries if each <= tag]:
            if (delivery := channel.deliveries.pop(each, None)) is not None:
                delivery.settle(outcome)

    def _channel_of(self, message: AbstractIncomingMessage) -> _Channel | None:
        try:
            key = message.channel
        except ChannelInvalidStateError:
            return None
        if (channel := self._channels.get(key)) is None:
            channel = self._channels[key] = _Channel()
            # In a context of its own: that of this delivery is not to live as long as the channel.
            key.closing.add_done_callback(channel.on_closed, context=Context())
        return channel
