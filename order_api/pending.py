"""How many orders are pending, and how old the oldest is: asked of the database now and then, and reported."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager

from order_api.outbox import Outbox
from shared.background import in_background
from shared.contract.errors import TracedOrdersError
from shared.tracing import instruments

LOOK_SECONDS = 5.0

_log = logging.getLogger(__name__)


class PendingOrders:
    """Keeps the latest count and age; None while the database does not tell."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._latest: tuple[int, float] | None = None
        instruments.observe_pending(lambda: self._latest)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Look while the context lasts."""
        return in_background(self._run, "pending orders")

    async def _run(self) -> None:
        while True:
            try:
                count, oldest = await self._outbox.pending()
                self._latest = count, oldest or 0.0
            except TracedOrdersError as error:
                self._latest = None
                _log.debug("cannot count the pending orders: %s", error)
            except Exception:  # without this loop nobody would count until a restart
                self._latest = None
                _log.exception("counting the pending orders failed")
            await asyncio.sleep(LOOK_SECONDS)
