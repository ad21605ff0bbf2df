"""What a run says of itself, on standard output: pytest shows it with `-s`, and when a test fails."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from tests.scale.load import ANSWERED, DECIDED, Load
from tests.torture.closing import Closing


class Report:
    """Tells what happens when it happens, and sums up at the end."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, width=120)
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Tell what happens now."""
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f}[/]  {line}")

    def start_clock(self) -> None:
        """Count the seconds from now on."""
        self._began = time.monotonic()

    def sum_up(self, load: Load, closing: Closing, more: Mapping[str, object]) -> None:
        """Show how it went as a table."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="dim")
        table.add_column()
        codes = sorted(load.customers.codes.items())
        rows: dict[str, object] = {
            "answers": ", ".join(f"{count} x {code}" for code, count in codes),
            "longest time without an answer": load.longest_silence(ANSWERED),
            "longest time without a decided one": load.longest_silence(DECIDED),
            "longest time to an answer": f"{load.longest_answer():.2f} s",
            "longest time to an outcome": f"{closing.longest_to_outcome:.2f} s",
            "settled after the last answer": f"{closing.settled_after:.1f} s",
            "spans": len(closing.traces.spans),
        }
        for title, value in (rows | dict(more)).items():
            table.add_row(title, str(value))
        self._console.print(table)
        for check in closing.checks:
            if not check.is_ok:
                self._console.print(f"[red]{check.name}[/]: {len(check.violations)} of {check.looked_at}")
