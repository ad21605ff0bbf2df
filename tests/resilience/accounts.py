"""The accounts of a load: what became of each order, read over HTTP as anybody would."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tests.http_client import HttpClient
from tests.resilience.load import Placed

READERS = 16
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Accounts:
    """The orders that broke a promise, by promise, and how many there are of each status."""

    statuses: Mapping[str, int]
    accepted_but_lost: Sequence[str] = field(default_factory=list)
    refused_but_stored: Sequence[str] = field(default_factory=list)
    """A 503 means: certainly not stored."""
    ended_in_error: Sequence[str] = field(default_factory=list)
    never_decided: Sequence[str] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """How many orders there are."""
        return sum(self.statuses.values())

    @property
    def broken(self) -> dict[str, Sequence[str]]:
        """Give the promises that were broken, each with some of the orders."""
        found = {
            "accepted but lost": self.accepted_but_lost,
            "refused with 503 but stored": self.refused_but_stored,
            "ended in error": self.ended_in_error,
            "never decided": self.never_decided,
        }
        return {name: orders[:5] for name, orders in found.items() if orders}


def settle(url: str, placed: Sequence[Placed], within: float) -> tuple[Accounts, float | None]:
    """Wait until every order of a load has its outcome; gives the accounts, and the seconds that it took or None."""
    return asyncio.run(_settle(url, placed, within))


async def _settle(url: str, placed: Sequence[Placed], within: float) -> tuple[Accounts, float | None]:
    began = time.monotonic()
    client = HttpClient(url)
    statuses = await _read(client, [each.order_id for each in placed])
    while pending := [order_id for order_id, status in statuses.items() if status == "pending"]:
        if time.monotonic() > began + within:
            break
        await asyncio.sleep(LOOK_SECONDS)
        statuses |= await _read(client, pending)
    settled_after = None if pending else time.monotonic() - began
    await client.close()
    accounts = Accounts(
        Counter(status for status in statuses.values() if status is not None),
        [each.order_id for each in placed if each.is_accepted and statuses[each.order_id] is None],
        [each.order_id for each in placed if each.code == 503 and statuses[each.order_id] is not None],
        [order_id for order_id, status in statuses.items() if status == "error"],
        pending,
    )
    return accounts, settled_after


async def _read(client: HttpClient, order_ids: Collection[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    left = iter(order_ids)

    async def read() -> None:
        for order_id in left:
            code, order, _ = await client.request("GET", f"/orders/{order_id}")
            assert code in {200, 404}, f"GET /orders/{order_id} answers {code}"
            found[order_id] = order["status"] if code == 200 else None

    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(read())
    return found
