"""The group read: concurrent look-ups share a transaction, each sees what was there before it, and one harms no other."""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from sqlalchemy import Connection

from shared.contract.errors import Overloaded, StoreUnavailable
from shared.storage import group_read
from shared.storage.database import Database
from shared.storage.group_read import GroupRead
from tests.waiting import eventually


class Shelf:
    """Looks keys up, and notes how many at a time; a look-up ends only when it may."""

    def __init__(self) -> None:
        self.content = {number: number * 10 for number in range(1000)}
        self.sizes: list[int] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.error: Exception | None = None

    def find(self, _: Connection, keys: Collection[int]) -> dict[int, int]:
        self.sizes.append(len(keys))
        found = {key: self.content[key] for key in keys if key in self.content}
        assert self.may_end.wait(30)
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def reads(shelf: Shelf, tmp_path: Path) -> AsyncIterator[GroupRead[int, int]]:
    async with Database(f"sqlite:///{tmp_path}/x.db").open() as database:
        yield GroupRead(database, shelf.find)


async def _until(shelf: Shelf, reading: int) -> None:
    await asyncio.to_thread(eventually, lambda: len(shelf.sizes) == reading, what=f"{reading} reads")


async def test_one_alone_is_looked_up_at_once(reads: GroupRead[int, int], shelf: Shelf) -> None:
    assert (await reads.get(7), await reads.get(-1)) == (70, None)
    assert shelf.sizes == [1, 1]


async def test_a_thousand_at_once_take_nine_reads(reads: GroupRead[int, int], shelf: Shelf) -> None:
    found = await asyncio.gather(*(reads.get(number) for number in range(1000)))

    assert found == [number * 10 for number in range(1000)]
    assert len(shelf.sizes) <= 9
    assert max(shelf.sizes) == group_read.MAX_KEYS


async def test_a_look_up_never_joins_a_read_that_has_begun_before_it(reads: GroupRead[int, int], shelf: Shelf) -> None:
    shelf.may_end.clear()
    first = asyncio.create_task(reads.get(7))
    await _until(shelf, 1)
    shelf.content[7] = 71
    second = asyncio.create_task(reads.get(7))
    shelf.may_end.set()

    assert (await first, await second) == (70, 71)


async def test_one_that_gives_up_harms_no_other(reads: GroupRead[int, int], shelf: Shelf) -> None:
    shelf.may_end.clear()
    first = asyncio.create_task(reads.get(1))
    await _until(shelf, 1)
    second, third = asyncio.create_task(reads.get(2)), asyncio.create_task(reads.get(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    shelf.may_end.set()

    assert await third == 30
    assert shelf.sizes == [1, 1]


async def test_whatever_fails_fails_all_who_share_it_each_by_an_error_of_its_own(
    reads: GroupRead[int, int], shelf: Shelf
) -> None:
    for error in (StoreUnavailable("away"), KeyError("a bug")):
        shelf.error = error
        failed = await asyncio.gather(*(reads.get(number) for number in range(5)), return_exceptions=True)

        assert {type(each) for each in failed} == {StoreUnavailable}
        assert len({id(each) for each in failed}) == 5
    shelf.error = None
    assert await reads.get(1) == 10


async def test_no_more_wait_than_the_bound(
    reads: GroupRead[int, int], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_read, "MAX_WAITING", 3)
    shelf.may_end.clear()
    looking = [asyncio.create_task(reads.get(0))]
    await _until(shelf, 1)
    looking += [asyncio.create_task(reads.get(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await reads.get(4)

    shelf.may_end.set()
    assert await asyncio.gather(*looking) == [0, 10, 20, 30]
