"""Sends checks again, on evidence: what was never confirmed, and what was confirmed but lost.

A check that the broker has confirmed is not sent again because time has passed: while the worker is away it lies in its
queue, and copies would only make the queue longer. That it is lost is known when a check that was published later has been
replied to, as the queue is first in, first out. Where nothing later is under way, one order's check is sent again as a probe.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from order_api.checks import Checks
from order_api.orders import Order
from order_api.outbox import Outbox
from order_api.replies import Replies
from shared.background import in_background
from shared.contract.errors import BrokerUnavailable, TracedOrdersError, Unavailable, Unconfirmed
from shared.rabbit.connection import Connection
from shared.telemetry import resume
from shared.tracing import orders as told

LOOK_SECONDS = 1.0
CLAIM = 100
LOST_A_LOOK = 50
"""Lost checks that are sent again in one look, at most: whatever has gone wrong, they must not crowd new orders out."""
OVERTAKEN_SECONDS = 15.0
"""By how much a check may be overtaken by later ones: workers handle many at a time, retries take seconds, and of several busy
instances one is behind another with the replies that wait for it."""
FIRST_PROBE, LONGEST_PROBE = 10.0, 120.0
"""Seconds from one probe to the next, while none is replied to."""

_log = logging.getLogger(__name__)


class Relay:
    """Looks for orders whose check has to be sent again, claims them, and sends each within the trace of its order."""

    def __init__(self, outbox: Outbox, checks: Checks, replies: Replies, connection: Connection) -> None:
        self._outbox = outbox
        self._checks = checks
        self._replies = replies
        self._connection = connection
        self._evidence = 0.0
        self._probe_pause = FIRST_PROBE
        self._next_probe = 0.0

    def running(self) -> AbstractAsyncContextManager[None]:
        """Relay while the context lasts."""
        return in_background(self._run, "relay")

    async def _run(self) -> None:
        while True:
            try:
                await self._note()
                if self._connection.is_usable:
                    # An order claimed while the broker is away would only be put off further.
                    await self._send_unconfirmed()
                    await self._send_lost()
                    await self._probe()
            except Unavailable as error:
                _log.warning("cannot look for unanswered orders: %s", error)
            except Exception:  # without this loop, unanswered orders would wait for a restart
                _log.exception("the relay failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def _note(self) -> None:
        """Write down what became of the checks that have no reply by now: which were confirmed, which were never sent."""
        confirmed, unsent = dict(self._checks.confirmed), list(self._checks.unsent)
        if confirmed:
            await self._outbox.confirm(confirmed)
        if unsent:
            await self._outbox.make_due(unsent)
        for order_id in confirmed:
            self._checks.forget(order_id)
        self._checks.unsent.difference_update(unsent)

    async def _send_unconfirmed(self) -> None:
        while unconfirmed := await self._outbox.claim_unconfirmed(CLAIM):
            if not await self._send_all(unconfirmed):
                return

    async def _send_lost(self) -> None:
        evidence = self._replies.answered_until
        if evidence > self._evidence:
            self._evidence, self._probe_pause = evidence, FIRST_PROBE
        await self._send_all(await self._outbox.claim_lost(evidence - OVERTAKEN_SECONDS, LOST_A_LOOK))

    async def _probe(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next_probe and (oldest := await self._outbox.claim_oldest()) is not None:
            await self._send_all([oldest])
            self._next_probe = now + self._probe_pause
            self._probe_pause = min(self._probe_pause * 2, LONGEST_PROBE)

    async def _send_all(self, orders: Sequence[Order]) -> bool:
        """Send the checks of claimed orders, and tell whether the broker was there."""
        not_sent = [order_id for order_id in await asyncio.gather(*map(self._send_again, orders)) if order_id]
        if not_sent:
            # Put off again and again meanwhile, these orders would wait long after the broker is back.
            await self._outbox.release(not_sent)
        return not not_sent

    async def _send_again(self, order: Order) -> str | None:
        """Send one check; gives the id of its order when the broker was certainly not there."""
        with resume(order.traceparent):
            try:
                await self._checks.send(order)
                told.sent_again()
                _log.info("asked again for an unanswered order", extra={"order_id": order.order_id})
            except TracedOrdersError as error:
                _log.warning("could not ask again: %s", error, extra={"order_id": order.order_id})
                is_away = isinstance(error, BrokerUnavailable) and not isinstance(error, Unconfirmed)
                return order.order_id if is_away else None
        return None
