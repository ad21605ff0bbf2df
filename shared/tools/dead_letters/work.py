"""Works through the dead letters: looks at them, or runs an errand for those that were named, or for all."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from shared.tools.dead_letters.choice import Choice
from shared.tools.dead_letters.errand import Errand
from shared.tools.dead_letters.letter import DeadLetter
from shared.tools.dead_letters.letter_queue import DeadLetterError, Held, LetterQueue, LetterQueueLost

IN_HAND = 16
"""Letters in memory at a time while each is settled before the next; a body may have 16 MiB."""
SURE_AFTER = 20
"""Settlements after which the broker is asked whether it has seen them: asked after each, it would take three times as long."""

OnLetter = Callable[[DeadLetter], None]


@dataclass(slots=True)
class Tally:
    """How far the work has come."""

    total: int = 0
    """Letters that were there to begin with."""
    done: int = 0
    impossible: int = 0
    """Letters that the errand cannot be run for; they stay."""


async def look(amqp_url: str, limit: int, on_letter: OnLetter) -> int:
    """Look at the oldest letters, which stay where they are, and give the number of all; raises DeadLetterError."""
    async with LetterQueue.open(amqp_url) as queue:
        total = await queue.count()
        async for held in queue.take(min(limit, total)):
            on_letter(held.letter)
        return total


async def show(amqp_url: str, typed: str) -> DeadLetter:
    """Give the letter that is meant; raises DeadLetterError."""
    async with LetterQueue.open(amqp_url) as queue:
        (held,) = await _meant(queue, [typed])
        return held.letter


async def run_for_named(amqp_url: str, errand: Errand, typed: Sequence[str], on_done: OnLetter) -> None:
    """Run an errand for each letter that is meant; raises DeadLetterError, before anything is done where one is not meant."""
    async with LetterQueue.open(amqp_url) as queue:
        meant = await _meant(queue, typed)
        for held in meant:
            if not errand.can(held.letter):
                raise DeadLetterError(f"The dead letter {held.letter.id} is undecodable: it can only be dropped.")
        async with _working(queue, errand, Tally(len(meant)), on_done) as work:
            for held in meant:
                await work.run_for(held)


async def run_for_all(
    amqp_url: str,
    errand: Errand,
    tally: Tally,
    on_done: OnLetter,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run an errand for every letter that is there now, until `is_stopped`; what is done stays done. Raises DeadLetterError.

    `tally` says at any time how far it has come. Letters that come in meanwhile are not among them: else a check that dies
    whenever it is replayed would keep this busy for ever.
    """
    async with LetterQueue.open(amqp_url) as queue:
        tally.total = await queue.count()
        async with _working(queue, errand, tally, on_done) as work:
            async for held in queue.take(tally.total, IN_HAND):
                if errand.can(held.letter):
                    await work.run_for(held)
                else:
                    tally.impossible += 1
                if is_stopped():
                    break


async def _meant(queue: LetterQueue, typed: Sequence[str]) -> list[Held]:
    choice = Choice(typed)
    async for held in queue.take(await queue.count()):
        choice.see(held)
    return choice.meant()


class _Work:
    """Runs an errand letter by letter, and counts what the broker is known to have seen."""

    def __init__(self, queue: LetterQueue, errand: Errand, tally: Tally, on_done: OnLetter) -> None:
        self._queue = queue
        self._errand = errand
        self._tally = tally
        self._on_done = on_done
        self._settled: list[DeadLetter] = []

    async def run_for(self, held: Held) -> None:
        await self._errand.carry_out(self._queue, held)
        await self._queue.settle(held)
        self._settled.append(held.letter)
        if len(self._settled) == SURE_AFTER:
            await self.make_sure()

    async def make_sure(self) -> None:
        await self._queue.flush()
        for letter in self._settled:
            self._tally.done += 1
            self._on_done(letter)
        self._settled.clear()


@asynccontextmanager
async def _working(queue: LetterQueue, errand: Errand, tally: Tally, on_done: OnLetter) -> AsyncIterator[_Work]:
    """Say how far it has come where the broker is lost, or refuses, in the middle."""
    work = _Work(queue, errand, tally, on_done)
    try:
        yield work
        await work.make_sure()
    except LetterQueueLost as lost:
        with suppress(LetterQueueLost):  # one that only refuses has seen what was settled before
            await work.make_sure()
        raise DeadLetterError(
            f"{lost.clause}, after {tally.done} of {tally.total} dead letters were {errand.done}; "
            "the same command goes on with the rest."
        ) from lost
