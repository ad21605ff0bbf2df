"""A resource that handlers cannot do without: while it is away nothing is consumed, and what is held waits for its return.

A failing resource is not a failing message. Retried, every check of an outage would run through its retries into the dead
letters; held, none of them comes nearer to any limit.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.contract.errors import HeldTooLong, Unavailable, first_line
from shared.rabbit.consumer import Consumer

PING_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
STOP_SECONDS = 3.0
"""How long a resource is away before consumption stops: until then the prefetch bounds what is held. To stop has a price,
for a delivery that crosses with it comes back, counted as redelivered."""
TRIES = 3
"""How often a delivery may fail on a resource that answers, before it is the delivery that fails and not the resource."""
HOLD_SECONDS = 25 * 60.0
"""Longest time that a delivery is held: RabbitMQ ends the channel of one that is held for half an hour."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class Resource:
    """Knows whether a resource is there, by its own ping, and stops its consumers while it is not."""

    def __init__(self, name: str, ping: Callable[[], Awaitable[None]], *consumers: Consumer) -> None:
        self._name = name
        self._ping = ping
        self._consumers = consumers
        self._watching: asyncio.Task[bool] | None = None

    async def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do some work, again after each time the resource was away; raises what the work raises while it is there.

        Raises HeldTooLong after HOLD_SECONDS.
        """
        loop, failures = asyncio.get_running_loop(), 0
        deadline = loop.time() + HOLD_SECONDS
        while True:
            try:
                return await work()
            except Unavailable as error:
                try:
                    async with asyncio.timeout_at(deadline):
                        was_away = await self._wait_until_there()
                except TimeoutError:
                    raise HeldTooLong(str(error)) from error
                failures += not was_away
                if failures == TRIES:
                    raise
                await asyncio.sleep(FIRST_PAUSE * failures)

    async def _wait_until_there(self) -> bool:
        """Wait until the resource answers, and tell whether it had been away."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name=f"{self._name} away?")
            self._watching.add_done_callback(self._forget)
        return await asyncio.shield(self._watching)

    def _forget(self, _: object) -> None:
        self._watching = None

    async def _watch(self) -> bool:
        if await self._answers():
            return False
        _log.warning("the %s is away: what is held waits, and soon nothing is consumed until it is back", self._name)
        loop = asyncio.get_running_loop()
        pause, stop_at = FIRST_PAUSE, loop.time() + STOP_SECONDS
        is_stopped = False
        while not await self._answers():
            if not is_stopped and loop.time() >= stop_at:
                is_stopped = True
                await asyncio.gather(*(consumer.pause() for consumer in self._consumers))
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        if is_stopped:
            await asyncio.gather(*(consumer.resume() for consumer in self._consumers))
        _log.warning("the %s is back", self._name)
        return True

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._ping()
        except Exception as error:  # whatever it is, a resource that does not answer its ping is away
            _log.debug("the %s does not answer: %s", self._name, first_line(error))
            return False
        return True
