"""The bad day: every large fault in turn, each at its size, and after each the time until answers are in time again."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import aio_pika

from shared.contract.topology import INVENTORY_CHECK
from tests.hostile_properties import SHORT_STRINGS, TIMESTAMPS
from tests.raw_amqp import RawPublisher, section, short_string
from tests.resilience.databases import KILLING_SQL, Killer, execute
from tests.resilience.rabbitmqctl import memory_alarm, rabbitmqctl
from tests.resilience.recovery import LATENESS
from tests.system import order_body
from tests.torture.accounts import Check, Poison
from tests.torture.customers import Customers, Wish
from tests.torture.node import ProxiedNode
from tests.torture.plant import INVENTORY_WORKER, ORDER_API, Plant, Slot, slot_role

KILLER = "killer"
"""The SKU at whose stock a worker is held until it is killed."""
REFUSED_BY_BROKER = {"expiration that is no UTF-8", "user_id that is no UTF-8"}
UNDECODABLE = {case: each for case, each in (SHORT_STRINGS | TIMESTAMPS).items() if case not in REFUSED_BY_BROKER}
INNOCENTS = 20
WINDOW, IN_TIME = 10.0, 0.99
SLACK_SECONDS = 20.0
"""Beside the backlog: until services and customers, which look again with growing pauses, have found what is back."""
PATIENCE = 150.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Disaster:
    """One fault that is over when its coroutine is; `away` says for how long it keeps orders from being decided (s)."""

    name: str
    away: float
    happen: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What came after a disaster; times are seconds."""

    name: str
    away: float
    in_time_after: float | None
    allowed: float


class BadDay:
    """Does the disasters in an order made from a seed alone; a size of 1 is that of a bad day."""

    def __init__(
        self, plant: Plant, node: ProxiedNode, customers: Customers, seed: int, size: float, say: Callable[[str], None]
    ) -> None:
        self._plant, self._node, self._customers, self._say = plant, node, customers, say
        self._chance = random.Random(f"disasters {seed}")  # noqa: S311 - reproducible, not secret
        self._size = size
        self.poison = Poison()
        self.recoveries: list[Recovery] = []

    def plan(self) -> Sequence[Disaster]:
        """Give the disasters in their order."""
        minute, half = 60 * self._size, 30 * self._size
        disasters = [
            Disaster("both workers paused", minute, lambda: self._paused(INVENTORY_WORKER, minute)),
            Disaster("workers' PostgreSQL away", minute, lambda: self._database_away(INVENTORY_WORKER, minute)),
            Disaster("APIs' PostgreSQL away", half, lambda: self._database_away(ORDER_API, half)),
            Disaster("broker away", minute, lambda: self._node.crash(minute)),
            Disaster("memory alarm", half, lambda: self._memory_alarm(half)),
            Disaster("telemetry backend away", 0, lambda: self._backend_away(2 * minute)),
            Disaster(f"a check that kills its worker, and {INNOCENTS} beside it", 0, self._killer),
            Disaster("every undecodable property", 0, self._undecodable),
            Disaster("an asker's reply queue full", 0, self._full_reply_queue),
        ]
        self._chance.shuffle(disasters)
        return disasters

    async def run(self, rate: float, capacity: float) -> None:
        """Do one after the other, each after answers are in time again."""
        for disaster in self.plan():
            self._say(f"{disaster.name}, {disaster.away:.0f} s")
            await disaster.happen()
            after = await self._in_time_again()
            allowed = LATENESS * disaster.away * rate / (capacity - rate) + SLACK_SECONDS
            self.recoveries.append(Recovery(disaster.name, disaster.away, after, allowed))
            self._say("answers are not in time again" if after is None else f"in time again after {after:.1f} s")

    def check(self) -> Check:
        """Tell which disasters the system did not recover from as soon as its capacity allows."""
        late = [
            f"{each.name}, away for {each.away:.0f} s: after {each.in_time_after} s, not {each.allowed:.0f} s"
            for each in self.recoveries
            if each.in_time_after is None or each.in_time_after > each.allowed
        ]
        return Check("answers are in time again as soon as the backlog can have drained", len(self.recoveries), late)

    async def _in_time_again(self) -> float | None:
        ended = time.time_ns()
        start = ended
        while time.time_ns() - ended < PATIENCE * 1e9:
            share = self._customers.share_in_time(start, start + int(WINDOW * 1e9))
            if time.time_ns() - start < WINDOW * 1e9 or share is None:
                await asyncio.sleep(0.5)
            elif share >= IN_TIME:
                return (start - ended) / 1e9
            else:
                start += int(0.5e9)
        return None

    def _slots(self, service: str) -> list[Slot]:
        return [slot for slot in self._plant.slots.values() if slot.service == service]

    async def _paused(self, service: str, seconds: float) -> None:
        first, second = self._slots(service)
        with first.paused(), second.paused():
            await asyncio.sleep(seconds)

    async def _database_away(self, service: str, seconds: float) -> None:
        server = self._plant.servers[service]
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start)

    async def _memory_alarm(self, seconds: float) -> None:
        alarm = memory_alarm(self._node.node)
        await asyncio.to_thread(alarm.__enter__)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(alarm.__exit__, None, None, None)

    async def _backend_away(self, seconds: float) -> None:
        self._plant.backend.refuse()
        self._plant.backend.cut()
        await asyncio.sleep(seconds)
        self._plant.backend.accept()

    async def _killer(self) -> None:
        url = self._plant.databases[INVENTORY_WORKER]
        await asyncio.to_thread(execute, url, KILLING_SQL.format(sku=KILLER))
        killer = Wish(f"{KILLER}-{uuid4().hex}", {KILLER: 1})
        self.poison.killers.append(killer.order_id)
        innocents = [Wish(f"innocent-{uuid4().hex}", {"widget": 1}) for _ in range(INNOCENTS)]
        async with asyncio.TaskGroup() as group:
            order = group.create_task(self._customers.order(killer))
            for innocent in innocents:
                group.create_task(self._customers.order(innocent))
            await self._kill_whoever_is_caught(Killer(url), order)

    async def _kill_whoever_is_caught(self, killer: Killer, order: asyncio.Task[None]) -> None:
        roles = {slot_role(slot.name): slot for slot in self._slots(INVENTORY_WORKER)}
        while not order.done():
            for role in await asyncio.to_thread(killer.caught):
                await roles[role].kill()
                await asyncio.to_thread(killer.let_go)
                await roles[role].start()
            await asyncio.sleep(LOOK_SECONDS)

    async def _undecodable(self) -> None:
        found = rabbitmqctl(self._node.node, "list_queues", "name", "--no-table-headers").split()
        own = [queue for queue in found if queue.startswith("order-api.replies.") and not queue.endswith(".shared")]
        with RawPublisher(self._plant.broker.amqp_url) as publisher:
            for properties in UNDECODABLE.values():
                publisher.publish("", INVENTORY_CHECK.encode(), properties)
                for queue in own:
                    publisher.publish("", queue.encode(), properties)
        self.poison.undecodable += len(UNDECODABLE)

    async def _full_reply_queue(self) -> None:
        async with _full_queue(self._plant.broker.amqp_url) as queue:
            order_id = f"stranger-{uuid4().hex}"
            self.poison.strangers.append(order_id)
            check = section(
                content_type=short_string(b"application/json"),
                type=short_string(b"inventory.check.v1"),
                correlation_id=short_string(order_id.encode()),
                reply_to=short_string(queue.encode()),
                delivery_mode=b"\x02",
            )
            with RawPublisher(self._plant.broker.amqp_url) as publisher:
                publisher.publish(
                    "", INVENTORY_CHECK.encode(), check, json.dumps(order_body({"unicorn": 1}, order_id)).encode()
                )
            await asyncio.sleep(WINDOW)


@asynccontextmanager
async def _full_queue(amqp_url: str) -> AsyncIterator[str]:
    """Keep a queue for replies that is full, and refuses what more is published to it."""
    name = f"order-api.replies.full-{uuid4().hex}"
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await channel.default_exchange.publish(aio_pika.Message(b"in the way"), name)
        try:
            yield name
        finally:
            await channel.queue_delete(name)
