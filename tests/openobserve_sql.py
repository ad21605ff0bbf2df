"""SQL as the stand-in for OpenObserve runs it: in SQLite, on the stored columns, refused with OpenObserve's own codes."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

SQL_NOT_VALID, STREAM_NOT_FOUND, FIELD_NOT_FOUND, EXECUTION_FAILED = 20001, 20002, 20004, 20008


class Refused(Exception):
    """An answer other than 200, with OpenObserve's own code where it has one."""

    def __init__(self, status: int, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.answer = JSONResponse({"code": code or status, "message": message}, status)


def run_sql(
    sql: str, tables: Mapping[str, Sequence[Mapping[str, Any]]], start_us: int, end_us: int
) -> list[dict[str, Any]]:
    """Run a query on the rows of a time range; nulls are left out of what it gives. Raises Refused.

    A column that no row of a table brought is an error here as it is there.
    """
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    database.create_function("concat", -1, lambda *parts: "".join(str(part) for part in parts if part is not None))
    database.create_function(
        "concat_ws", -1, lambda between, *parts: between.join(str(part) for part in parts if part is not None)
    )
    try:
        for name, rows in tables.items():
            columns = list(dict.fromkeys(column for row in rows for column in row))
            database.execute(f'CREATE TABLE "{name}" ({", ".join(f"[{column}]" for column in columns)})')
            found = [row for row in rows if start_us <= row["_timestamp"] < end_us]
            places = ", ".join("?" * len(columns))
            values = [[row.get(column) for column in columns] for row in found]
            database.executemany(f'INSERT INTO "{name}" VALUES ({places})', values)
        return [
            {name: value for name, value in dict(hit).items() if value is not None} for hit in database.execute(sql)
        ]
    except sqlite3.Error as error:
        raise _refused(str(error)) from error
    finally:
        database.close()


def _refused(why: str) -> Refused:
    if why.startswith("no such column"):
        return Refused(400, f"Search field not found: {why}", FIELD_NOT_FOUND)
    if why.startswith("no such table"):
        return Refused(400, f"Search stream not found: {why}", STREAM_NOT_FOUND)
    if re.search("syntax error|incomplete input", why):
        return Refused(400, f"Search SQL not valid: {why}", SQL_NOT_VALID)
    return Refused(500, f"Search SQL execute error: {why}", EXECUTION_FAILED)
