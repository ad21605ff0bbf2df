"""The recovery table: fault, seconds away, seconds until answers are in time again, messages an order, dead letters.

Each test prints its row, and appends it to the file that RECOVERY_TABLE names; `python -m tests.resilience.recovery FILE`
shows such a file as a table.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

LATENESS = 1.3
"""By how much a backlog may drain more slowly than what is left of the capacity would let it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault did; rates are orders a second, times are seconds."""

    fault: str
    rate: float
    capacity: float
    away: float
    in_time_after: float | None
    """None where answers were not in time again for as long as the load lasted."""
    messages_an_order: float
    dead_letters: int
    retries: int
    redelivered: int
    connections: int
    settled_after: float | None
    """From the end of the load until no order was pending; None where some still were."""

    @property
    def allowed(self) -> float:
        """The time within which a backlog that came at this rate must have drained, at what is left of the capacity."""
        return LATENESS * self.away * self.rate / (self.capacity - self.rate)


def keep(row: Row) -> None:
    """Show a row, and collect it where a file is named for it."""
    show([row])
    if file := os.environ.get("RECOVERY_TABLE"):
        with Path(file).open("a") as lines:
            lines.write(json.dumps(asdict(row)) + "\n")


def show(rows: list[Row]) -> None:
    """Show rows as a table."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (
        ("fault", "left"),
        ("orders/s", "right"),
        ("capacity", "right"),
        ("away s", "right"),
        ("in time after s", "right"),
        ("allowed s", "right"),
        ("messages/order", "right"),
        ("dead letters", "right"),
        ("retries", "right"),
        ("redelivered", "right"),
        ("connections", "right"),
        ("settled after s", "right"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            row.fault,
            f"{row.rate:.0f}",
            f"{row.capacity:.0f}",
            f"{row.away:.0f}",
            _seconds(row.in_time_after),
            f"{row.allowed:.0f}" if row.capacity > row.rate else "-",
            f"{row.messages_an_order:.2f}",
            str(row.dead_letters),
            str(row.retries),
            str(row.redelivered),
            str(row.connections),
            _seconds(row.settled_after),
        )
    Console(highlight=False, width=160).print(table)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    try:
        show([Row(**json.loads(line)) for line in Path(sys.argv[1]).read_text().splitlines()])
    except (IndexError, OSError, ValueError, TypeError) as error:
        sys.exit(f"Name a file that RECOVERY_TABLE of `make test-long` has written: {error}.")
