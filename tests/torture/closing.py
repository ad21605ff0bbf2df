"""The end of a run: let it settle, end everything in order, and do the accounts."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.contract import topology
from shared.tools.traces.model import Span, span_to_json
from tests.torture.accounts import Check, Poison, check_orders, check_queues, check_stock
from tests.torture.customers import Wish
from tests.torture.plant import Plant
from tests.torture.traces import Traces
from tests.torture.witness import Books, count_pending, dead_letters, queued, read_books

SETTLE_SECONDS = 150.0
"""The relay asks again after 5, 10, 20, 40 and then 60 s; a failed check waits 30 s before its last attempt."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Closing:
    """What was found when all was over."""

    books: Books
    traces: Traces
    settled_after: float
    """Seconds from the last answer until no order was pending and no message waited."""
    longest_to_outcome: float
    """Seconds from the first request of a customer to the outcome of the order, at most."""
    checks: Sequence[Check]

    @property
    def broken(self) -> list[tuple[str, Sequence[str]]]:
        """Give the promises that were not kept, each with some of the cases."""
        return [(check.name, check.violations[:5]) for check in self.checks if not check.is_ok]


async def close(
    plant: Plant,
    wishes: Sequence[Wish],
    initial_stock: Mapping[str, int],
    directory: Path,
    say: Say,
    poison: Poison | None = None,
) -> Closing:
    """Wait until nothing is under way any more, ask every service to end, and look at everything that is left."""
    poison = poison or Poison()
    began = time.monotonic()
    not_ready = await plant.wait_until_ready(within=60)
    is_settled = await _within(SETTLE_SECONDS, lambda: _is_settled(plant))
    settled_after = time.monotonic() - began
    await _within(15.0, lambda: _nobody_waits(plant))
    waiting = _alive(plant, plant.collector.by_instance("orders.waiting"))
    say(f"settled after {settled_after:.1f} s" if is_settled else "it does not settle")
    await asyncio.gather(*(slot.terminate() for slot in plant.slots.values()))
    say("everything has ended, now the accounts")
    books = (await read_books(plant)).without(poison.strangers)
    _keep_spans(directory / "spans.jsonl", plant.collector.spans())
    traces = Traces(plant.collector.spans(), plant.lives, list(plant.slots.values()), books)
    checks = [
        Check("every service is ready again", len(plant.slots), not_ready),
        *check_orders(wishes, books),
        *check_stock(books, initial_stock),
        *check_queues(await queued(plant), await dead_letters(plant), waiting, poison),
        *traces.check(wishes),
        _check_exits(plant),
        _check_exports(plant),
    ]
    return Closing(books, traces, settled_after, _longest_to_outcome(books, wishes), checks)


def _keep_spans(file: Path, spans: Sequence[Span]) -> None:
    with file.open("w") as lines:
        lines.writelines(json.dumps(span_to_json(span)) + "\n" for span in spans)


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


def _longest_to_outcome(books: Books, wishes: Sequence[Wish]) -> float:
    first: dict[str, int] = {}
    for wish in wishes:
        for answer in wish.answers:
            first[wish.order_id] = min(answer.sent_ns, first.get(wish.order_id, answer.sent_ns))
    placed = (books.orders[order_id] for order_id in first if order_id in books.orders)
    took = (each["decided_at"] - first[each["order_id"]] / 1e9 for each in placed if each["decided_at"] is not None)
    return max(took, default=0.0)
