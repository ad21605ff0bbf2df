"""One request that waits for the reply to its order."""

import asyncio
import time
from dataclasses import dataclass

from opentelemetry.trace import SpanContext

from order_api.orders import Outcome


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome that a reply brought."""

    outcome: Outcome
    span: SpanContext
    """The process span of the reply, for whoever waited to link to."""


class Waiter:
    """One request that waits for the reply to its check."""

    def __init__(self) -> None:
        self.since = time.time()
        """When its order was accepted here, in seconds since the epoch."""
        self.waited = 0.0
        """Seconds that the request has waited so far."""
        self._reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

    async def wait(self, deadline: float) -> Outcome | None:
        """Wait until a time of the event loop's clock for the outcome; None when it has not come by then."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                # Shielded, since the wait may go on after this deadline.
                reply = await asyncio.shield(self._reply)
        except TimeoutError:
            return None
        finally:
            self.waited += loop.time() - started
        return reply.outcome if reply else None

    @property
    def came_in(self) -> SpanContext | None:
        """Give the process span of the reply that ended the wait; None without one."""
        reply = self._reply.result() if self._reply.done() and not self._reply.cancelled() else None
        return reply.span if reply else None

    @property
    def is_over(self) -> bool:
        """Tell whether the wait has ended, with a reply or without."""
        return self._reply.done()

    def wake(self, reply: Reply | None) -> None:
        """End the wait with the reply."""
        if not self._reply.done():
            self._reply.set_result(reply)

    def give_up(self) -> None:
        """End the wait without a reply: none can be expected any more."""
        self.wake(None)
