"""Asks again for orders that have no outcome yet: the broker was away, a reply was lost, an API instance died."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from opentelemetry import context

from order_api.inventory_client import InventoryClient
from order_api.order_store import SqlOrderStore
from order_api.orders import Order
from shared.contract.errors import BrokerUnavailable, TracedOrdersError, Unavailable
from shared.rabbit.broker import PUBLISH_SECONDS, Broker
from shared.telemetry.trace_context import context_of
from shared.tracing import instruments as metrics

LOOK_SECONDS = 1.0
CLAIM = 100

_log = logging.getLogger(__name__)


class Relay:
    """Looks for orders that are due, claims them, and asks each within the trace it was placed in."""

    def __init__(self, store: SqlOrderStore, inventory: InventoryClient, broker: Broker) -> None:
        self._store = store
        self._inventory = inventory
        self._broker = broker

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Relay while the context lasts."""
        relaying = asyncio.create_task(self._run(), name="relay")
        try:
            yield
        finally:
            relaying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await relaying

    async def _run(self) -> None:
        while True:
            # An order claimed while the broker is away would only be put off further.
            await self._broker.connected.wait()
            try:
                await self._ask_all_due()
            except Unavailable as error:
                _log.warning("cannot look for unanswered orders: %s", error)
            except Exception:  # without this loop, unanswered orders would wait for a restart
                _log.exception("the relay failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask_all_due(self) -> None:
        while unanswered := await self._store.claim_unanswered(CLAIM):
            were_asked = await asyncio.gather(*map(self._ask_again, unanswered))
            if not all(were_asked):
                # A connection that has gone silent looks connected until its heartbeats are missed. Put off again and again
                # meanwhile, these orders would wait long after the broker is back.
                pairs = zip(unanswered, were_asked, strict=True)
                await self._store.release([order.order_id for order, was_asked in pairs if not was_asked])
                return

    async def _ask_again(self, order: Order) -> bool:
        """Ask for one order, and tell whether the broker was there."""
        token = context.attach(context_of(order.traceparent))
        try:
            await self._inventory.ask(order, PUBLISH_SECONDS)
            metrics.asked_again.add(1)
            _log.info("asked again for an unanswered order", extra={"order_id": order.order_id})
        except TracedOrdersError as error:
            _log.warning("could not ask again: %s", error, extra={"order_id": order.order_id})
            return not isinstance(error, BrokerUnavailable)
        finally:
            context.detach(token)
        return True
