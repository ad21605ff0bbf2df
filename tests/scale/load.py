"""Orders that flow at a steady rate while something happens, and how long nothing came back meanwhile."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.torture.customers import ACCEPTED, Answer, Customers
from tests.torture.plant import Plant, Slot

ANSWERED = ACCEPTED | {409}
DECIDED = frozenset({201})
"""Without 200: an order that is placed again may have been decided long before."""
RATE = 15.0
"""Orders a second: enough to see a gap of a tenth of a second, little enough for a small machine that is busy."""
SEED = 7


@dataclass(frozen=True, slots=True)
class Silence:
    """A time without an answer, in seconds from the first order."""

    began: float
    lasted: float

    def __str__(self) -> str:
        return f"{self.lasted:.2f} s, from second {self.began:.1f} on"


class Load:
    """What the customers have seen so far."""

    def __init__(self, customers: Customers, apis: Sequence[Slot]) -> None:
        self.customers = customers
        self._apis = [api.name for api in apis]
        self._began_ns = self._ended_ns = time.time_ns()

    def end(self) -> None:
        """Take note that no more orders come: from now on it is no wonder that there is no answer."""
        self._ended_ns = time.time_ns()

    async def wait_for_more(self, count: int, within: float = 60.0) -> None:
        """Wait until every order API has decided so many more orders within a call."""
        before = self._decided()
        async with asyncio.timeout(within):
            while min(self._decided()[api] - before[api] for api in self._apis) < count:
                await asyncio.sleep(0.1)

    def longest_silence(self, codes: Set[int], api: str | None = None) -> Silence:
        """Find the longest time between two answers of these codes to orders placed, with one API or with any."""
        moments = (answer.ended_ns for answer in self._answers(codes) if api in {None, answer.slot})
        inside = sorted(moment for moment in moments if moment <= self._ended_ns)
        pairs = itertools.pairwise([self._began_ns, *inside, self._ended_ns])
        before, after = max(pairs, key=lambda pair: pair[1] - pair[0])
        return Silence((before - self._began_ns) / 1e9, (after - before) / 1e9)

    def longest_answer(self) -> float:
        """Find the longest time that an answer took, in seconds."""
        return max((answer.ended_ns - answer.sent_ns) / 1e9 for answer in self._answers(ANSWERED))

    def _decided(self) -> Counter[str]:
        return Counter(answer.slot for answer in self._answers(DECIDED))

    def _answers(self, codes: Set[int]) -> Iterator[Answer]:
        placed = (answer for wish in self.customers.wishes for answer in wish.answers if answer.method == "POST")
        return (answer for answer in placed if answer.code in codes)


@asynccontextmanager
async def steady_load(plant: Plant) -> AsyncIterator[Load]:
    """Place orders while the context lasts; it ends when every customer knows the outcome."""
    customers, closing = Customers(plant.apis, SEED), asyncio.Event()
    async with customers.running(), asyncio.TaskGroup() as group:
        load = Load(customers, plant.apis)
        group.create_task(customers.order_until(closing, RATE))
        yield load
        load.end()
        closing.set()
