"""The group commit: concurrent writes share a transaction, and one bad write harms no other."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError

from shared.contract.errors import StoreUnavailable
from shared.storage.database import Database, GroupCommit
from tests.waiting import eventually

metadata = MetaData()
numbers = Table("numbers", metadata, Column("number", Integer, primary_key=True))


class Recorder:
    """A batch writer that notes the size of each batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def apply(self, connection: Connection, batch: Sequence[int]) -> Sequence[int]:
        self.batches.append(len(batch))
        connection.execute(insert(numbers), [{"number": number} for number in batch])
        return [number * 10 for number in batch]


async def _stored(database: Database) -> list[int]:
    return await database.read(lambda connection: sorted(connection.scalars(select(numbers.c.number)).all()))


async def test_each_write_gets_its_own_result_and_writes_share_transactions(tmp_path: Path) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", metadata).open() as database:
        async with GroupCommit(database, "commit numbers", recorder.apply).running() as commits:
            results = await asyncio.gather(*(commits.submit(number) for number in range(100)))

        assert results == [number * 10 for number in range(100)]
        assert await _stored(database) == list(range(100))
        assert len(recorder.batches) < 10


async def test_a_write_that_cannot_be_done_fails_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", metadata).open() as database:
        async with GroupCommit(database, "commit numbers", recorder.apply).running() as commits:
            await commits.submit(7)

            results = await asyncio.gather(*map(commits.submit, [6, 7, 8]), return_exceptions=True)

        assert results[0] == 60
        assert isinstance(results[1], StoreUnavailable)
        assert results[2] == 80
        assert await _stored(database) == [6, 7, 8]
        assert IntegrityError.__name__ in caplog.text


async def test_a_write_whose_caller_has_given_up_is_not_done(tmp_path: Path) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", metadata).open() as database:
        commits = GroupCommit(database, "commit numbers", recorder.apply)
        given_up = asyncio.ensure_future(commits.submit(1))
        kept = asyncio.ensure_future(commits.submit(2))
        await asyncio.sleep(0)
        given_up.cancel()

        async with commits.running():
            await kept

        assert await _stored(database) == [2]


async def test_what_waits_at_the_end_is_still_committed(tmp_path: Path) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", metadata).open() as database:
        async with GroupCommit(database, "commit numbers", recorder.apply).running() as commits:
            waiting = [asyncio.ensure_future(commits.submit(number)) for number in range(5)]
            await asyncio.sleep(0)

        assert [await each for each in waiting] == [0, 10, 20, 30, 40]


async def test_a_locked_database_fails_the_write_and_the_next_one_succeeds(tmp_path: Path) -> None:
    recorder = Recorder()
    path = tmp_path / "n.db"
    async with (
        Database(f"sqlite:///{path}", metadata).open() as database,
        GroupCommit(database, "commit numbers", recorder.apply).running() as commits,
    ):
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await commits.submit(1)
            other.execute("ROLLBACK")

        assert await commits.submit(1) == 10


def test_waiting_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="the moon"):
        eventually(lambda: False, within=0, what="the moon")
