"""The group read: concurrent look-ups share a transaction, so that a crowd that asks costs hardly more than one who does."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextvars import Context
from itertools import islice
from typing import Generic, TypeVar

from sqlalchemy import Connection

from shared.contract.errors import Overloaded, StoreUnavailable, first_line
from shared.storage.database import Database
from shared.storage.waiters import fail_all

MAX_KEYS = 128
"""Keys looked up in one transaction."""
MAX_WAITING = 2048
"""Look-ups that wait at a time: some sixteen transactions."""

_log = logging.getLogger(__name__)

Key = TypeVar("Key")
Found = TypeVar("Found")


class GroupRead(Generic[Key, Found]):
    """Lets concurrent look-ups share a transaction: while one is under way the next keys gather; a lone one waits for nothing.

    `find` looks keys up; what is not there, it leaves out. A look-up sees whatever was committed before it was asked for.
    """

    def __init__(self, database: Database, find: Callable[[Connection, Collection[Key]], Mapping[Key, Found]]) -> None:
        self._database = database
        self._find = find
        self._waiting: dict[asyncio.Future[Found | None], Key] = {}
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Found | None:
        """Look a key up; raises StoreUnavailable when the database is away or, as Overloaded, too many wait for it."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{len(self._waiting)} look-ups wait for the database already")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Found | None] = loop.create_future()
        self._waiting[done] = key
        if self._reader is None or self._reader.done():
            self._reader = loop.create_task(self._run(), name="group read", context=Context())
        try:
            return await done
        finally:
            self._waiting.pop(done, None)

    async def _run(self) -> None:
        while self._waiting:
            batch = dict(islice(self._waiting.items(), MAX_KEYS))
            for done in batch:
                del self._waiting[done]
            await self._read(batch)

    async def _read(self, batch: Mapping[asyncio.Future[Found | None], Key]) -> None:
        keys = set(batch.values())
        try:
            found = await self._database.read(lambda connection: self._find(connection, keys))
        except StoreUnavailable as error:
            fail_all(batch, type(error), str(error))
        except Exception as error:
            _log.exception("a look-up failed")
            fail_all(batch, StoreUnavailable, first_line(error))
        else:
            for done, key in batch.items():
                if not done.done():
                    done.set_result(found.get(key))
