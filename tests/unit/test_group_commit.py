"""The group commit: concurrent writes share a transaction, and one bad write harms no other."""

import asyncio
import contextlib
import sqlite3
import statistics
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError

from shared.contract.errors import CommitUnknown, Fatal, Overloaded, StoreUnavailable, WriteFailed
from shared.storage import group_commit
from shared.storage.database import Database
from shared.storage.group_commit import GroupCommit
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


class SlowRecorder(Recorder):
    """One whose first transaction ends only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def apply(self, connection: Connection, batch: Sequence[int]) -> Sequence[int]:
        self.has_begun.set()
        assert self.may_end.wait(30)
        return super().apply(connection, batch)


def _task(name: str) -> asyncio.Task[Any]:
    (found,) = (task for task in asyncio.all_tasks() if task.get_name() == name)
    return found


async def _stored(database: Database) -> list[int]:
    return await database.read(lambda connection: sorted(connection.scalars(select(numbers.c.number)).all()))


async def test_each_write_gets_its_own_result_and_writes_share_transactions(tmp_path: Path) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", recorder.apply).running() as commits:
            results = await asyncio.gather(*(commits.submit(number) for number in range(100)))

        assert results == [number * 10 for number in range(100)]
        assert await _stored(database) == list(range(100))
        assert len(recorder.batches) < 10


async def test_many_callers_that_write_again_after_a_while_share_each_transaction_with_most_others(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    callers, rounds = 64, 20

    async def write_again_and_again(commits: GroupCommit[int, int], caller: int) -> None:
        for number in range(rounds):
            await commits.submit(caller * rounds + number)
            await asyncio.sleep(caller % 16 / 2000)

    async with (
        Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database,
        GroupCommit(database, "commit numbers", recorder.apply).running() as commits,
    ):
        await asyncio.gather(*(write_again_and_again(commits, caller) for caller in range(callers)))

    assert sum(recorder.batches) == callers * rounds
    assert statistics.mean(recorder.batches) > callers / 3


async def test_a_write_that_cannot_be_done_fails_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", recorder.apply).running() as commits:
            await commits.submit(7)

            results = await asyncio.gather(*map(commits.submit, [6, 7, 8]), return_exceptions=True)

        assert results[0] == 60
        assert isinstance(results[1], WriteFailed)
        assert results[2] == 80
        assert await _stored(database) == [6, 7, 8]
        assert IntegrityError.__name__ in caplog.text


async def test_a_write_whose_caller_has_given_up_is_not_done(tmp_path: Path) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
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
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", recorder.apply).running() as commits:
            waiting = [asyncio.ensure_future(commits.submit(number)) for number in range(5)]
            await asyncio.sleep(0)

        assert [await each for each in waiting] == [0, 10, 20, 30, 40]


async def test_a_locked_database_fails_the_write_and_the_next_one_succeeds(tmp_path: Path) -> None:
    recorder = Recorder()
    path = tmp_path / "n.db"
    async with (
        Database(f"sqlite:///{path}", fill=metadata.create_all).open() as database,
        GroupCommit(database, "commit numbers", recorder.apply).running() as commits,
    ):
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await commits.submit(1)
            other.execute("ROLLBACK")

        assert await commits.submit(1) == 10


async def test_a_batch_has_no_more_writes_than_a_span_keeps_links(tmp_path: Path) -> None:
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        commits = GroupCommit(database, "commit numbers", recorder.apply)
        waiting = [asyncio.ensure_future(commits.submit(number)) for number in range(257)]
        await asyncio.sleep(0)

        async with commits.running():
            await asyncio.gather(*waiting)

    assert recorder.batches == [128, 128, 1]
    assert max(recorder.batches) <= (SpanLimits().max_links or 0)


async def test_when_too_many_wait_the_next_is_refused_at_once_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 5)
    recorder = Recorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        commits = GroupCommit(database, "commit numbers", recorder.apply)
        waiting = [asyncio.ensure_future(commits.submit(number)) for number in range(5)]
        await asyncio.sleep(0)

        with pytest.raises(Overloaded, match="5 writes wait"):
            await commits.submit(5)

        async with commits.running():
            assert await asyncio.gather(*waiting) == [0, 10, 20, 30, 40]
        assert await _stored(database) == [0, 1, 2, 3, 4]


async def test_a_write_that_waits_too_long_is_withdrawn_and_one_in_a_transaction_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of the first takes longer than the second may wait."""
    monkeypatch.setattr(group_commit, "MAX_WAIT_SECONDS", 0.2)
    slow = SlowRecorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", slow.apply).running() as commits:
            first = asyncio.ensure_future(commits.submit(1))
            await asyncio.to_thread(slow.has_begun.wait, 30)

            with pytest.raises(Overloaded):
                await commits.submit(2)
            slow.may_end.set()

            assert await first == 10
        assert await _stored(database) == [1]


async def test_a_write_whose_caller_gives_up_during_its_transaction_is_made_all_the_same(tmp_path: Path) -> None:
    slow = SlowRecorder()
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", slow.apply).running() as commits:
            given_up, kept = (asyncio.ensure_future(commits.submit(number)) for number in (1, 2))
            await asyncio.to_thread(slow.has_begun.wait, 30)
            given_up.cancel()
            slow.may_end.set()

            assert await kept == 20
        assert await _stored(database) == [1, 2]


async def test_a_committer_that_ends_fails_whoever_waits_at_once_and_says_so(tmp_path: Path) -> None:
    slow = SlowRecorder()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", slow.apply).running() as commits:
            in_transaction = asyncio.ensure_future(commits.submit(1))
            await asyncio.to_thread(slow.has_begun.wait, 30)
            waiting = asyncio.ensure_future(commits.submit(2))
            await asyncio.sleep(0)

            _task("commit numbers").cancel()
            outcomes = await asyncio.gather(in_transaction, waiting, return_exceptions=True)
            slow.may_end.set()

            with pytest.raises(StoreUnavailable, match="has ended"):
                await commits.submit(3)
        stored = await _stored(database)

    # The transaction was under way: it has gone through, and nobody could know.
    assert [type(outcome) for outcome in outcomes] == [CommitUnknown, StoreUnavailable]
    assert stored in ([], [1])
    assert [type(context["exception"]) for context in told] == [Fatal]


async def test_a_batch_with_a_result_too_few_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()

    def apply(connection: Connection, batch: Sequence[int]) -> Sequence[int]:
        return recorder.apply(connection, batch)[1:]

    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", apply).running() as commits:
            results = await asyncio.gather(*map(commits.submit, [1, 2]), return_exceptions=True)

        assert [type(result) for result in results] == [WriteFailed] * 2
        assert await _stored(database) == []
        assert "0 results for 1 writes" in caplog.text


async def test_callers_that_fail_together_get_an_error_each(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    async with (
        Database(f"sqlite:///{path}", fill=metadata.create_all).open() as database,
        GroupCommit(database, "commit numbers", Recorder().apply).running() as commits,
    ):
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            errors = await asyncio.gather(*map(commits.submit, range(10)), return_exceptions=True)

    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert len({id(error) for error in errors}) == 10


async def test_after_its_end_a_group_commit_takes_no_more_writes(tmp_path: Path) -> None:
    async with Database(f"sqlite:///{tmp_path}/n.db", fill=metadata.create_all).open() as database:
        async with GroupCommit(database, "commit numbers", Recorder().apply).running() as commits:
            pass

        with pytest.raises(StoreUnavailable, match="closing"):
            await commits.submit(1)


def test_waiting_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="the moon"):
        eventually(lambda: False, within=0, what="the moon")
