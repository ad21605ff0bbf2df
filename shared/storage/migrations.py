"""The schema of a database, brought to its newest revision by Alembic."""

import logging
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from shared.contract.errors import NewerSchema

_VERSION = table("alembic_version", column("version_num"))
"""Where Alembic keeps the revision."""

_log = logging.getLogger(__name__)


class Migrations:
    """The revisions in a directory: a file each, named as its revision, so that the newest is known without Alembic.

    To import it takes longer than all else that a service does before it is ready.
    """

    def __init__(self, scripts: Path) -> None:
        self._scripts = scripts

    def are_needed(self, connection: Connection) -> bool:
        """Tell whether a database has less than the newest revision; raises NewerSchema where it has more."""
        found = _revision(connection)
        if found is not None and found not in self._revisions:
            raise NewerSchema(f"the database is at revision {found}, and this version knows none after {self._newest}")
        return found != self._newest

    def run(self, connection: Connection) -> None:
        """Bring a database to the newest revision, in the transaction of the connection."""
        if not self.are_needed(connection):
            return  # another instance was faster
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self._scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _log.info("the database is at revision %s now", self._newest)

    @cached_property
    def _revisions(self) -> list[str]:
        return sorted(script.stem for script in (self._scripts / "versions").glob("v*.py"))

    @property
    def _newest(self) -> str:
        return self._revisions[-1]


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION.name):
        return None
    return connection.scalar(select(_VERSION.c.version_num))
