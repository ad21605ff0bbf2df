"""What goes wrong, and when: a plan made from a seed alone, and the carrying out of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.torture.node import ProxiedNode
from tests.torture.plant import Plant

BROKER = "broker"


class Kind(StrEnum):
    """What physically happens to a target."""

    KILL = "SIGKILL"
    """The process is gone between two instructions; what it held in memory is lost. It is started again."""
    TERMINATE = "SIGTERM"
    """The process is asked to end, as by a deployment, and is started again once it has."""
    PAUSE = "SIGSTOP"
    """The process does not run for a while, as on an overloaded machine, while the world goes on."""
    CRASH_BROKER = "broker crash"
    """The broker's machine loses power: no connection is closed in order, only what is on its disk comes back."""
    CUT = "connections cut"
    """Every connection between a service and the broker is reset at once; what was under way is gone."""
    STALL = "connections stalled"
    """Nothing arrives in either direction for a while and nobody is told, as behind a failed router."""
    SLOW = "connections slow"
    """Every piece of data takes longer."""


LASTS = {
    Kind.KILL: (0.1, 3.0),
    Kind.TERMINATE: (0.1, 1.0),
    Kind.PAUSE: (0.3, 1.5),
    Kind.CRASH_BROKER: (0.1, 3.0),
    Kind.CUT: (0.0, 0.0),
    Kind.STALL: (0.5, 6.0),
    Kind.SLOW: (0.5, 3.0),
}
"""Seconds: until a process is started again, or until a condition ends."""
WEIGHTS = {
    Kind.KILL: 4,
    Kind.TERMINATE: 3,
    Kind.PAUSE: 3,
    Kind.CRASH_BROKER: 2,
    Kind.CUT: 3,
    Kind.STALL: 3,
    Kind.SLOW: 1,
}
GAP = (1.0, 5.0)
"""Seconds between the beginnings of two faults."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it begins (seconds after the first), what, to whom, and for how long (seconds)."""

    at: float
    kind: Kind
    target: str
    lasts: float

    def __str__(self) -> str:
        how_long = f" for {self.lasts:.1f} s" if self.lasts else ""
        return f"{self.kind}: {self.target}{how_long}"


def plan(seed: int, seconds: float, targets: Sequence[str]) -> list[Fault]:
    """Plan the faults of a run; the same seed, length and targets give the same plan, and every kind comes early once."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - reproducible, not secret
    early = list(Kind)
    chance.shuffle(early)
    faults: list[Fault] = []
    at = chance.uniform(*GAP) / 2
    while at < seconds:
        kind = early.pop() if early else chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        target = BROKER if kind is Kind.CRASH_BROKER else chance.choice(targets)
        faults.append(Fault(round(at, 1), kind, target, round(chance.uniform(*LASTS[kind]), 1)))
        at += chance.uniform(*GAP)
    return faults


class Chaos:
    """Carries out a plan on a plant and its broker; two faults of one target come one after the other, others overlap."""

    def __init__(self, plant: Plant, node: ProxiedNode, say: Callable[[str], None]) -> None:
        self._plant = plant
        self._node = node
        self._say = say
        self._busy = {name: asyncio.Lock() for name in (BROKER, *plant.slots)}
        self.done: Counter[Kind] = Counter()

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """Carry out the whole plan, and return when everything is back."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
                group.create_task(self._commit(fault))

    async def _commit(self, fault: Fault) -> None:
        async with self._busy[fault.target]:
            self._say(str(fault))
            self.done[fault.kind] += 1
            if fault.kind is Kind.CRASH_BROKER:
                await self._node.crash(fault.lasts)
                await self._plant.wait_until_working()
            else:
                await self._commit_on_service(fault)

    async def _commit_on_service(self, fault: Fault) -> None:
        slot, wire = self._plant.slots[fault.target], self._node.wires[fault.target]
        match fault.kind:
            case Kind.KILL:
                await slot.kill()
                await asyncio.sleep(fault.lasts)
                await slot.start()
            case Kind.TERMINATE:
                await slot.terminate()
                await asyncio.sleep(fault.lasts)
                await slot.start()
            case Kind.PAUSE:
                with slot.paused():
                    await asyncio.sleep(fault.lasts)
            case Kind.CUT:
                wire.cut()
            case Kind.STALL:
                wire.stall()
                await asyncio.sleep(fault.lasts)
                wire.resume()
            case Kind.SLOW:
                wire.slow(0.05)
                await asyncio.sleep(fault.lasts)
                wire.slow(0.0)
            case Kind.CRASH_BROKER:
                raise AssertionError("a service is not the broker")
