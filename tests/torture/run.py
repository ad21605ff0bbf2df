"""One run: start, order and break at the same time, and close."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.broker import wait_until_saved
from tests.resilience.load import capacity_of
from tests.torture.accounts import Check
from tests.torture.chaos import Chaos, Fault, Kind, plan
from tests.torture.closing import Closing, Say, close
from tests.torture.copies import begin_to_copy, check_copies
from tests.torture.customers import Customers
from tests.torture.disasters import KILLER, BadDay, Recovery
from tests.torture.node import proxied_node
from tests.torture.plant import SLOTS, Plant, running_plant
from tests.torture.traces import EXPORT_SECONDS
from tests.torture.witness import count_pending

CAPACITY_SECONDS = 8.0
TELL_SECONDS = 10.0
SPANS_AN_ORDER = 6
LONGEST_PAUSE, HEARTBEAT_SECONDS = 60.0, 4
"""Of customers that look again, and of connections, on a bad day: neither must be a load or a fault of its own."""
LARGEST_SHARE = 0.25
"""Of the capacity, which is measured without customers that look again or were refused: after an outage they come to twice as
many requests as new orders do."""


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
    recoveries: Sequence[Recovery] = ()

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
    initial = _initial_stock(seconds, rate)
    async with (
        proxied_node() as node,
        running_plant(directory, initial, node, use_postgres=use_postgres) as plant,
    ):
        customers, chaos = Customers(plant.apis, seed), Chaos(plant, node, say)
        say("everything is up")
        await asyncio.to_thread(wait_until_saved, node.node)
        async with customers.running(), _watched(plant, customers, say) as own_delay:
            await asyncio.gather(customers.order_for(seconds, rate), chaos.carry_out(planned(seed, seconds)))
        say("the faults are over and every customer has gone")
        closing = await close(plant, customers.wishes, initial, directory, say)
        return _result(closing, customers, chaos, own_delay(), [_check_lost(closing, plant, rate)])


async def bad_day(
    *, seconds: float, rate: float, seed: int, directory: Path, size: float = 1.0, say: Say = print
) -> Result:
    """Do every disaster under load, then small faults until `seconds` have passed, and account for all of it.

    The rate is at most a share of the capacity, which is measured first: a backlog drains with what is left of it.
    """
    initial = _initial_stock(seconds, rate) | {KILLER: 1000}
    async with (
        proxied_node(heartbeat=HEARTBEAT_SECONDS) as node,
        running_plant(directory, initial, node, use_postgres=True) as plant,
    ):
        capacity = await asyncio.to_thread(capacity_of, [slot.url for slot in plant.apis], CAPACITY_SECONDS)
        rate = min(rate, capacity * LARGEST_SHARE)
        say(f"everything is up, and can do {capacity:.0f} orders a second; {rate:.0f} a second come now")
        await begin_to_copy(node.amqp_url)
        customers, chaos = Customers(plant.apis, seed, longest_pause=LONGEST_PAUSE), Chaos(plant, node, say)
        day, closed, began = BadDay(plant, node, customers, seed, size, say), asyncio.Event(), time.monotonic()
        async with customers.running(), _watched(plant, customers, say) as own_delay, asyncio.TaskGroup() as group:
            group.create_task(customers.order_until(closed, rate))
            await day.run(rate, capacity)
            await chaos.carry_out(planned(seed, began + seconds - time.monotonic()))
            closed.set()
        say("the bad day is over and every customer has gone")
        closing = await close(plant, customers.wishes, initial, directory, say, day.poison)
        stored = {wish.order_id for wish in customers.wishes} & closing.books.orders.keys()
        checks = [day.check(), await check_copies(node.amqp_url, stored), _check_lost(closing, plant, rate)]
        return _result(closing, customers, chaos, own_delay(), checks, day.recoveries)


def _initial_stock(seconds: float, rate: float) -> dict[str, int]:
    return {"widget": 1_000_000, "gadget": 3, "scarce": max(5, int(seconds * rate * 0.08))}


def _check_lost(closing: Closing, plant: Plant, rate: float) -> Check:
    """Tell whether kills took more with them than the spans of the seconds that one may wait for its export."""
    kills = sum(life.killed_ns is not None for life in plant.lives)
    lost, most = len(closing.traces.lost), int(kills * EXPORT_SECONDS * SPANS_AN_ORDER * rate)
    name = f"{kills} processes that were killed took at most {most} spans with them"
    return Check(name, len(closing.traces.spans), [f"{lost} are lost"] if lost > most else [])


def _result(
    closing: Closing,
    customers: Customers,
    chaos: Chaos,
    own_delay: float,
    more_checks: Sequence[Check] = (),
    recoveries: Sequence[Recovery] = (),
) -> Result:
    return Result(
        Counter(str(order["status"]) for order in closing.books.orders.values()),
        customers.codes,
        chaos.done,
        closing.longest_to_outcome,
        closing.settled_after,
        len(closing.traces.spans),
        closing.traces.lost_by_kind,
        closing.traces.longest_lag,
        own_delay,
        [*closing.checks, *more_checks],
        recoveries,
    )


@asynccontextmanager
async def _watched(plant: Plant, customers: Customers, say: Say) -> AsyncIterator[Callable[[], float]]:
    """Tell how a run goes while the context lasts, and give what tells by how many seconds it was held up at most."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            now = time.monotonic()
            await asyncio.sleep(0.1)
            longest = max(longest, time.monotonic() - now - 0.1)

    async def tell() -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            codes = ", ".join(f"{count} x {code}" for code, count in sorted(customers.codes.items()))
            say(f"{len(customers.wishes)} orders, {await _pending(plant)} pending; answers: {codes}")

    watching = asyncio.gather(watch(), tell())
    try:
        yield lambda: longest
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _pending(plant: Plant) -> str:
    try:
        return str(await count_pending(plant))
    except (OSError, asyncpg.PostgresError):
        return "an unknown number"  # their database is away
