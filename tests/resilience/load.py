"""Load whose size is known: a steady rate that waits for nobody (an open loop), and the capacity that it is measured by."""

import asyncio
import bisect
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.http_client import HttpClient
from tests.system import new_id, order_body

CAPACITY_CONNECTIONS = 64
IN_TIME_SHARE = 0.99
"""Share of the orders placed in a window whose answers must hold their outcome."""
LOOKS_A_SECOND = 4


@dataclass(slots=True)
class Placed:
    """One order as its caller saw it; times are seconds of the monotonic clock."""

    order_id: str
    placed_at: float
    answered_at: float | None = None
    code: int | None = None
    """None while there is no answer, and for good where none came."""
    status: str | None = None

    @property
    def is_in_time(self) -> bool:
        """Whether the answer held the outcome."""
        return self.code in {200, 201} and self.status not in {None, "pending"}

    @property
    def is_accepted(self) -> bool:
        """Whether the answer promised the order."""
        return self.code in {200, 201, 202}


class Load:
    """Orders for one widget each, `rate` a second, to each of these APIs in turn."""

    def __init__(self, urls: Sequence[str], rate: float) -> None:
        self.rate = rate
        self.placed: list[Placed] = []
        self._urls = urls
        self._prefix = new_id("L")
        self._stopping = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Place orders while the context lasts, on a thread; it ends when every one of them is answered."""
        thread = threading.Thread(target=asyncio.run, args=(self._run(),), name="load")
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Place no more orders."""
        self._stopping.set()

    @property
    def codes(self) -> dict[str, int]:
        """Count the answers by code and status."""
        return dict(Counter(f"{each.code} {each.status or ''}".strip() for each in list(self.placed)))

    def share_in_time(self, since: float, until: float) -> float | None:
        """Give the share of the orders placed in a time that were answered with their outcome; None while one is open."""
        first, last = (bisect.bisect_left(self.placed, at, key=lambda each: each.placed_at) for at in (since, until))
        window = self.placed[first:last]
        if not window or any(each.answered_at is None for each in window):
            return None
        return sum(each.is_in_time for each in window) / len(window)

    def in_time_after(self, since: float, window: float) -> float | None:
        """Give the seconds from `since` to the first whole window in which answers were in time; None where there is none."""
        last = self.placed[-1].placed_at if self.placed else since
        for look in itertools.count():
            start = since + look / LOOKS_A_SECOND
            if start + window > last:
                return None
            if (self.share_in_time(start, start + window) or 0.0) >= IN_TIME_SHARE:
                return start - since
        raise AssertionError("unreachable")

    async def _run(self) -> None:
        clients = [HttpClient(url) for url in self._urls]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(itertools.cycle(clients)):
                await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
                if self._stopping.is_set():
                    break
                order = Placed(f"{self._prefix}-{number}", time.monotonic())
                self.placed.append(order)
                group.create_task(_place(client, order))
        await asyncio.gather(*(client.close() for client in clients))


async def _place(client: HttpClient, order: Placed) -> None:
    try:
        order.code, shown, _ = await client.request("POST", "/orders", order_body({"widget": 1}, order.order_id))
        order.status = shown.get("status") if order.is_accepted else None
    except (OSError, EOFError, TimeoutError):
        pass
    finally:
        order.answered_at = time.monotonic()


def capacity_of(urls: Sequence[str], seconds: float) -> float:
    """Measure how many orders a second are answered with their outcome, where as many callers as connections ask on and on."""
    return asyncio.run(_measure(urls, seconds))


async def _measure(urls: Sequence[str], seconds: float) -> float:
    clients, answered = [HttpClient(url) for url in urls], 0
    began = time.monotonic()

    async def order_until_the_end(client: HttpClient) -> None:
        nonlocal answered
        while time.monotonic() < began + seconds:
            order = Placed(new_id("C"), time.monotonic())
            await _place(client, order)
            # The first quarter warms up.
            answered += order.is_in_time and time.monotonic() > began + seconds / 4

    asking = itertools.islice(itertools.cycle(clients), CAPACITY_CONNECTIONS)
    await asyncio.gather(*map(order_until_the_end, asking))
    elapsed = time.monotonic() - began - seconds / 4
    await asyncio.gather(*(client.close() for client in clients))
    return answered / elapsed
