"""Who orders: customers that try again with the same order id when an answer does not come, and remember what they saw."""

import asyncio
import bisect
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.http_client import HttpClient
from tests.system import order_body
from tests.torture.plant import Slot

ANSWER_SECONDS = 30.0
PATIENCE = 240.0
"""Seconds after the last order for which customers try, and follow an order that is pending."""
RETRY_SECONDS = 0.5
ACCEPTED = frozenset({200, 201, 202})


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what came back; times are nanoseconds since the epoch."""

    slot: str
    method: str
    sent_ns: int
    ended_ns: int
    code: int | None
    """None when no answer came."""
    trace_id: str | None = None
    outcome: tuple[str, str | None] | None = None
    """Status and reason, where the answer shows an order that is decided."""


@dataclass(slots=True)
class Wish:
    """An order as its customer wants it, and every answer to it."""

    order_id: str
    items: Mapping[str, int]
    is_conflict: bool = False
    """Another order was placed under this id before, with other items."""
    is_impatient: bool = False
    """Its customer gives up the first time before anybody could answer."""
    placed_ns: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def is_in_time(self) -> bool | None:
        """Whether the first answer held the outcome; None while there is none."""
        return bool(self.answers[0].code in {200, 201} and self.answers[0].outcome) if self.answers else None

    @property
    def is_accepted(self) -> bool:
        """Whether any answer promised the order."""
        return any(answer.code in ACCEPTED for answer in self.answers if answer.method == "POST")


class Customers:
    """Places orders at a steady rate and keeps all that is seen of them."""

    def __init__(self, apis: Sequence[Slot], seed: int, longest_pause: float = 16.0) -> None:
        self._apis = apis
        self._longest_pause = longest_pause
        self._chance = random.Random(f"orders {seed}")  # noqa: S311 - reproducible, not secret
        self._prefix = f"T{seed}"
        self._clients = {slot.name: HttpClient(slot.url) for slot in apis}
        self._deadline = 0.0
        self.wishes: list[Wish] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the connections while the context lasts."""
        try:
            yield
        finally:
            await asyncio.gather(*(client.close() for client in self._clients.values()))

    @property
    def codes(self) -> Counter[str]:
        """Count the answers to orders placed, by code."""
        return Counter(
            str(answer.code or "none") for wish in self.wishes for answer in wish.answers if answer.method == "POST"
        )

    async def order_for(self, seconds: float, rate: float) -> None:
        """Place orders for so long, `rate` a second, and return when every customer knows the outcome."""
        await self._order(range(int(seconds * rate)), rate)

    async def order_until(self, closing: asyncio.Event, rate: float) -> None:
        """Place orders, `rate` a second, until it is closing time, and return when every customer knows the outcome."""
        await self._order(itertools.takewhile(lambda _: not closing.is_set(), itertools.count()), rate)

    async def order(self, wish: Wish) -> None:
        """Place one more order, and follow it to its outcome."""
        await self._place(wish)

    def share_in_time(self, since_ns: int, until_ns: int) -> float | None:
        """Give the share of the orders placed in a time whose first answer held the outcome; None while one is open."""
        first, last = (
            bisect.bisect_left(self.wishes, at, key=lambda wish: wish.placed_ns) for at in (since_ns, until_ns)
        )
        found = [wish.is_in_time for wish in self.wishes[first:last] if not (wish.is_conflict or wish.is_impatient)]
        return None if not found or None in found else sum(map(bool, found)) / len(found)

    async def _order(self, numbers: Iterable[int], rate: float) -> None:
        began = time.monotonic()
        self._deadline = math.inf
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                group.create_task(self._shop(Wish(f"{self._prefix}-{number}", self._basket()), self._chance.random()))
            self._deadline = time.monotonic() + PATIENCE

    def _basket(self) -> dict[str, int]:
        chance = self._chance.random()
        if chance < 0.80:
            return {"widget": self._chance.randint(1, 3)}
        if chance < 0.90:
            return {"scarce": self._chance.randint(1, 2)}
        if chance < 0.94:
            return {"widget": 2, "scarce": 1}
        if chance < 0.98:
            return {"widget": 1, "gadget": 5}
        return {"unicorn": 1}

    async def _shop(self, wish: Wish, manner: float) -> None:
        if manner < 0.03:  # two clicks: the same order twice at the same time, by whatever instance
            again = Wish(wish.order_id, wish.items)
            await asyncio.gather(self._place(wish), self._place(again))
        elif manner < 0.05:  # gives up waiting early, and tries again at once
            await self._place(wish, first_patience=0.02)
        else:
            await self._place(wish)
        if manner > 0.97:  # comes back later with the same order
            await asyncio.sleep(3.0)
            await self._place(Wish(wish.order_id, wish.items))
        elif manner > 0.96 and wish.is_accepted:  # takes an id that is taken
            await self._place(Wish(wish.order_id, {"widget": 77}, is_conflict=True))

    async def _place(self, wish: Wish, first_patience: float = ANSWER_SECONDS) -> None:
        """Place an order, again and again with the same id until it is accepted, and follow it to its outcome."""
        wish.placed_ns = time.time_ns()
        wish.is_impatient = first_patience < ANSWER_SECONDS
        self.wishes.append(wish)
        turn = len(self.wishes)
        patience, pause = first_patience, RETRY_SECONDS
        while time.monotonic() < self._deadline:
            answer = await self._send(wish, turn, patience)
            turn, patience = turn + 1, ANSWER_SECONDS
            if answer.code is not None and answer.code < 500:
                break
            # Each try is later than the one before: customers that wait must not be a load that keeps the system down.
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._longest_pause)
        pause = self._longest_pause / 8
        while wish.is_accepted and wish.answers[-1].outcome is None and time.monotonic() < self._deadline:
            pause = min(pause * 2, self._longest_pause)
            await asyncio.sleep(pause)
            await self._send(wish, turn, ANSWER_SECONDS, "GET")
            turn += 1

    async def _send(self, wish: Wish, turn: int, patience: float, method: str = "POST") -> Answer:
        path = "/orders" if method == "POST" else f"/orders/{wish.order_id}"
        body = order_body(wish.items, wish.order_id) if method == "POST" else None
        first = turn % len(self._apis)
        for slot in (*self._apis[first:], *self._apis[:first]):
            sent = time.time_ns()
            try:
                reply = await self._clients[slot.name].request(method, path, body, patience)
            except (OSError, EOFError) as error:
                answer = Answer(slot.name, method, sent, time.time_ns(), None)
                # Who takes no connection has seen nothing of the request: as from a proxy, it goes to the next one.
                if isinstance(error, ConnectionRefusedError):
                    continue
            else:
                shown = reply.body if reply.code in ACCEPTED else {"status": "pending"}
                answer = Answer(
                    slot.name,
                    method,
                    sent,
                    time.time_ns(),
                    reply.code,
                    reply.header("x-trace-id"),
                    None if shown["status"] == "pending" else (shown["status"], shown["reason"]),
                )
            break
        wish.answers.append(answer)
        return answer
