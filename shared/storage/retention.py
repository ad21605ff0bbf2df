"""Retention: rows that were decided long ago are removed, a few at a time, beside everything else."""

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager

from sqlalchemy import Column, Connection, bindparam, delete, select

from shared.background import in_background
from shared.contract.errors import StoreUnavailable
from shared.storage.database import Database

STEP_ROWS = 500
"""Rows that one transaction removes: few enough to keep the writes behind it waiting for milliseconds."""
STEP_SECONDS = 0.2
"""Pause between two steps."""
LOOK_SECONDS = 600.0
"""Pause after a step that found less than it could have removed."""

_log = logging.getLogger(__name__)


class Retention:
    """Removes the rows of a table that were decided more than `days` ago; one that is undecided has no time, and stays."""

    def __init__(self, database: Database, key: Column[str], decided_at: Column[float], days: float) -> None:
        self._database = database
        self._days = days
        self._finding = (
            select(key)
            .where(decided_at < bindparam("before"))
            .order_by(decided_at)
            .limit(STEP_ROWS)
            .with_for_update(skip_locked=True)
        )
        self._removing = delete(key.table).where(key.in_(bindparam("keys", expanding=True)))

    def running(self) -> AbstractAsyncContextManager[None]:
        """Remove while the context lasts."""
        return in_background(self._run, "retention")

    async def _run(self) -> None:
        while True:
            removed = 0
            try:
                removed = await self._database.write(self._remove_some)
            except StoreUnavailable as error:
                _log.warning("old rows could not be removed: %s", error)
            except Exception:  # without this loop, the table would grow until a restart
                _log.exception("old rows could not be removed")
            await asyncio.sleep(STEP_SECONDS if removed == STEP_ROWS else LOOK_SECONDS)

    def _remove_some(self, connection: Connection) -> int:
        before = time.time() - self._days * 24 * 3600
        keys = connection.scalars(self._finding, {"before": before}).all()
        if keys:
            connection.execute(self._removing, {"keys": keys})
        return len(keys)
