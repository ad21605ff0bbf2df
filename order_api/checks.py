"""The check of an order, sent: confirmed, and under a deadline of its own that outlasts its caller's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from order_api.orders import Order
from shared.contract import envelope, topology
from shared.contract.errors import BrokerUnavailable, TracedOrdersError, Unconfirmed
from shared.contract.messages import CheckInventory
from shared.rabbit.publisher import Publisher

SEND_SECONDS = 10.0
"""Longest wait for the confirm of a check. Of one that comes later nobody knows: the check is sent again, after a pause."""
END_SECONDS = 3.0
"""Longest time that checks on their way get at the end; what is not confirmed by then, another instance sends again."""

_log = logging.getLogger(__name__)


class Checks:
    """Sends checks, to be replied to at the queue that `reply_queue` names, and keeps account of what became of each."""

    def __init__(self, publisher: Publisher, reply_queue: Callable[[], str | None]) -> None:
        self._publisher = publisher
        self._reply_queue = reply_queue
        self._sending: set[asyncio.Task[None]] = set()
        self.confirmed: dict[str, float] = {}
        """When the check of an order was published that the broker has confirmed and nobody has replied to yet."""
        self.unsent: set[str] = set()
        """New orders whose check was certainly not sent: the relay need not wait to send it."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Send while the context lasts; at its end what is on its way gets a short time to be confirmed."""
        try:
            yield self
        finally:
            if self._sending:
                _, late = await asyncio.wait(self._sending, timeout=END_SECONDS)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    def start(self, order: Order, on_failure: Callable[[TracedOrdersError], None]) -> None:
        """Send the check of an order in the background; tells when it could not be sent."""

        async def send() -> None:
            try:
                await self.send(order)
            except TracedOrdersError as error:
                if not isinstance(error, Unconfirmed):
                    self.unsent.add(order.order_id)
                on_failure(error)

        task = asyncio.create_task(send(), name="check")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def send(self, order: Order) -> None:
        """Publish the check of an order; raises BrokerUnavailable, Refused or Unroutable."""
        self.confirmed[order.order_id] = await self._publish(order)
        _log.debug("a check is published", extra={"order_id": order.order_id})

    def forget(self, order_id: str) -> None:
        """Take an order that has its outcome off the account."""
        self.confirmed.pop(order_id, None)

    async def _publish(self, order: Order) -> float:
        reply_to = self._reply_queue()
        if reply_to is None:
            raise BrokerUnavailable("not connected to RabbitMQ")
        check = envelope.message(
            CheckInventory(order_id=order.order_id, items=order.items).encode(),
            type=CheckInventory.TYPE,
            correlation_id=order.order_id,
            reply_to=reply_to,
        )
        await self._publisher.publish(topology.ORDERS_EXCHANGE, topology.INVENTORY_CHECK, check, timeout=SEND_SECONDS)
        return envelope.published_at(check)
