"""One run: start, order and break at the same time, let it settle, end in order, and do the accounts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared import topology
from shared.traces.model import Span, span_to_json
from tests.torture.accounts import Check, check_orders, check_queues, check_stock
from tests.torture.chaos import Chaos, Fault, Kind, plan
from tests.torture.customers import Customers
from tests.torture.plant import INSTANCES, INVENTORY_WORKER, ORDER_API, Plant, running_plant
from tests.torture.traces import Traces
from tests.torture.witness import Books, count_pending, dead_letters, queued, read_books

SETTLE_SECONDS = 150.0
"""The relay asks again after 5, 10, 20, 40 and then 60 s; a failed check waits 30 s before its last attempt."""
DECLARED_SECONDS = 1.5
"""RabbitMQ 3.10 does not bring a quorum queue back that was declared less than half a second before a crash."""
TARGETS = [f"{service} {number}" for service in (ORDER_API, INVENTORY_WORKER) for number in range(1, INSTANCES + 1)]

Say = Callable[[str], None]


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
    return plan(seed, seconds, TARGETS)


async def torture(
    *, seconds: float, rate: float, seed: int, directory: Path, use_postgres: bool = False, say: Say = print
) -> Result:
    """Run the whole of it, in at most `seconds` and some five minutes."""
    initial = {"widget": 1_000_000, "gadget": 3, "scarce": max(5, int(seconds * rate * 0.08))}
    async with running_plant(directory, initial, use_postgres=use_postgres) as plant:
        customers, chaos = Customers(plant.apis, seed), Chaos(plant, say)
        say("everything is up")
        await asyncio.sleep(DECLARED_SECONDS)
        async with customers.running(), asyncio.TaskGroup() as group:
            group.create_task(customers.order_for(seconds, rate))
            group.create_task(chaos.carry_out(planned(seed, seconds)))
            group.create_task(_tell_progress(plant, customers, seconds, say))
            own_delay = group.create_task(_longest_delay(seconds))
        say("the faults are over and every customer has gone")
        began = time.monotonic()
        not_ready = await plant.wait_until_ready(within=60)
        is_settled = await _within(SETTLE_SECONDS, lambda: _is_settled(plant))
        settled_after = time.monotonic() - began
        await _within(15.0, lambda: _nobody_waits(plant))
        waiting = _alive(plant, plant.collector.by_instance("orders.waiting"))
        say(f"settled after {settled_after:.1f} s" if is_settled else "it does not settle")
        await asyncio.gather(*(slot.terminate() for slot in plant.slots.values()))
        say("everything has ended, now the accounts")
        books = await read_books(plant)
        _keep_spans(directory / "spans.jsonl", plant.collector.spans())
        traces = Traces(plant.collector.spans(), plant.lives, list(plant.slots.values()), books)
        checks = [
            Check("every service is ready again", len(plant.slots), not_ready),
            *check_orders(customers.wishes, books),
            *check_stock(books, initial),
            *check_queues(await queued(plant), await dead_letters(plant), waiting),
            *traces.check(customers.wishes),
            _check_exits(plant),
            _check_exports(plant),
        ]
        return Result(
            Counter(str(order["status"]) for order in books.orders.values()),
            customers.codes,
            chaos.done,
            _longest_to_outcome(books, customers),
            settled_after,
            len(traces.spans),
            traces.lost_by_kind,
            traces.longest_lag,
            own_delay.result(),
            checks,
        )


def _keep_spans(file: Path, spans: Sequence[Span]) -> None:
    with file.open("w") as lines:
        lines.writelines(json.dumps(span_to_json(span)) + "\n" for span in spans)


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


async def _is_settled(plant: Plant) -> bool:
    if await count_pending(plant):
        return False
    counts = await queued(plant)
    return not any(count for name, count in counts.items() if name != topology.DEAD_LETTERS)


async def _nobody_waits(plant: Plant) -> bool:
    return not any(_alive(plant, plant.collector.by_instance("orders.waiting")).values())


def _alive(plant: Plant, by_instance: Mapping[str, float]) -> dict[str, float]:
    """Pick the values of the processes that run now; one that has said nothing counts as one that waits."""
    return {api.lives[-1].instance: by_instance.get(api.lives[-1].instance, 1.0) for api in plant.apis}


async def _within(seconds: float, is_so: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := await is_so()) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return found


def _check_exits(plant: Plant) -> Check:
    ended = [(slot.name, life) for slot in plant.slots.values() for life in slot.lives if life.killed_ns is None]
    wrong = [f"{name} ({life.instance}): {life.exit_status}" for name, life in ended if life.exit_status != 0]
    return Check("asked to end, a process ends in order", len(ended), wrong)


def _check_exports(plant: Plant) -> Check:
    dropped = plant.collector.by_instance("orders.spans.lost")
    return Check("no span was dropped on its way", len(dropped), [f"{of}: {n:.0f}" for of, n in dropped.items() if n])


def _longest_to_outcome(books: Books, customers: Customers) -> float:
    """Seconds from the first request of a customer to the outcome of the order."""
    first: dict[str, int] = {}
    for wish in customers.wishes:
        for answer in wish.answers:
            first[wish.order_id] = min(answer.sent_ns, first.get(wish.order_id, answer.sent_ns))
    decided = (order for order in books.orders.values() if order["decided_at"] is not None)
    return max((order["decided_at"] - first[order["order_id"]] / 1e9 for order in decided), default=0.0)
