"""What drivers raise when a database is away, locked or slow: one table, and the one place where it becomes StoreUnavailable."""

import contextlib
from collections.abc import Iterator

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.contract.errors import StoreUnavailable, first_line

_AWAY_CLASSES = ("08", "28", "3D", "53", "57", "58")
"""Classes of PostgreSQL's SQLSTATE: connection, login, no such database, resources, operator intervention, system."""
_AWAY_STATES = frozenset({"25006", "40001", "40P01", "42501", "55P03"})
"""Read-only (a standby), serialization failure, deadlock, what the user may not do, lock not available."""


@contextlib.contextmanager
def away_as_unavailable() -> Iterator[None]:
    """Raise StoreUnavailable for a database that is away; a bug, or an error that the data makes, stays what it is."""
    try:
        yield
    except DBAPIError as error:
        if not _is_away(error):
            raise
        raise StoreUnavailable(first_line(error)) from error
    except (PoolTimeoutError, OSError, TimeoutError) as error:
        raise StoreUnavailable(first_line(error)) from error


def _is_away(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES
    return not isinstance(error, DataError | IntegrityError | NotSupportedError | ProgrammingError)
