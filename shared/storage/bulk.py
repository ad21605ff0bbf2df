"""Many rows with one statement, which takes them as one JSON text.

sqlite3 lets go of the GIL at each step of each statement, and has to get it back from a busy event loop: that costs more than
the rows. A statement whose text does not depend on the number of rows is also compiled only once.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult

Row = Mapping[str, Any]


class Bulk:
    """A statement with `{given}` where it takes rows from, `{columns}` for their columns, and `{lock}` to lock what it finds.

    `columns` are those of the rows that are handed over, with their types in PostgreSQL.
    """

    def __init__(self, statement: str, **columns: str) -> None:
        self.statement = statement.format(given="...", columns="...", lock="").strip()
        """What is told of it: constant, whatever rows it is run with."""
        names = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in columns)
        sqlite = f"(SELECT {names} FROM json_each(?)) AS given"  # noqa: S608 - constant, as all of it
        types = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        postgresql = f"json_to_recordset(CAST($1 AS json)) AS given ({types})"
        self._by_dialect = {
            "sqlite": statement.format(given=sqlite, columns=", ".join(columns), lock=""),
            "postgresql": statement.format(given=postgresql, columns=", ".join(columns), lock="FOR UPDATE"),
        }

    def execute(self, connection: Connection, rows: Sequence[Row]) -> CursorResult[Any]:
        """Run the statement once for all rows, of which there is at least one."""
        # To the driver as it is: SQLAlchemy would take longer to look its compiled form up than the driver to run it.
        return connection.exec_driver_sql(self._by_dialect[connection.dialect.name], (json.dumps(rows),))
