"""One run: start, order and break at the same time, and close."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture.accounts import Check
from tests.torture.chaos import Chaos, Fault, Kind, plan
from tests.torture.closing import Say, close
from tests.torture.customers import Customers
from tests.torture.node import proxied_node
from tests.torture.plant import SLOTS, Plant, running_plant
from tests.torture.witness import count_pending

DECLARED_SECONDS = 1.5
"""RabbitMQ 3.10 does not bring a quorum queue back that was declared less than half a second before a crash."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run."""

    outcomes: Mapping[str, int]
    codes: Mapping[str, int]
    faults: Mapping[Kind, int]
    longest_to_outcome: float
    settled_after: float
    spans: int
    lost_spans: Mapping[str, int]
    longest_lag: float
    own_delay: float
    """Seconds by which the run itself, with the proxies in it, was held up at most: a busy machine."""
    checks: Sequence[Check]

    @property
    def is_ok(self) -> bool:
        """Whether every promise was kept."""
        return all(check.is_ok for check in self.checks)


def planned(seed: int, seconds: float) -> list[Fault]:
    """Give the faults of a run."""
    return plan(seed, seconds, SLOTS)


async def torture(
    *, seconds: float, rate: float, seed: int, directory: Path, use_postgres: bool = False, say: Say = print
) -> Result:
    """Run the whole of it, in at most `seconds` and some five minutes."""
    initial = {"widget": 1_000_000, "gadget": 3, "scarce": max(5, int(seconds * rate * 0.08))}
    async with (
        proxied_node() as node,
        running_plant(directory, initial, node, use_postgres=use_postgres) as plant,
    ):
        customers, chaos = Customers(plant.apis, seed), Chaos(plant, node, say)
        say("everything is up")
        await asyncio.sleep(DECLARED_SECONDS)
        async with customers.running(), asyncio.TaskGroup() as group:
            group.create_task(customers.order_for(seconds, rate))
            group.create_task(chaos.carry_out(planned(seed, seconds)))
            group.create_task(_tell_progress(plant, customers, seconds, say))
            own_delay = group.create_task(_longest_delay(seconds))
        say("the faults are over and every customer has gone")
        closing = await close(plant, customers.wishes, initial, directory, say)
        return Result(
            Counter(str(order["status"]) for order in closing.books.orders.values()),
            customers.codes,
            chaos.done,
            closing.longest_to_outcome,
            closing.settled_after,
            len(closing.traces.spans),
            closing.traces.lost_by_kind,
            closing.traces.longest_lag,
            own_delay.result(),
            closing.checks,
        )


async def _tell_progress(plant: Plant, customers: Customers, seconds: float, say: Say) -> None:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        await asyncio.sleep(min(10.0, seconds - passed))
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(customers.codes.items()))
        say(f"{len(customers.wishes)} orders, {await count_pending(plant)} pending; answers: {codes}")


async def _longest_delay(seconds: float) -> float:
    began, longest = time.monotonic(), 0.0
    while (now := time.monotonic()) - began < seconds:
        await asyncio.sleep(0.1)
        longest = max(longest, time.monotonic() - now - 0.1)
    return longest
