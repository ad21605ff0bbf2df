"""Tortures the whole system: `python -m tests.torture --seconds 180 --rate 30 --seed 1`, or `--profile long`."""

import asyncio
import secrets
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.torture.run import Result, bad_day, planned, torture

SHOWN = 20


class Profile(StrEnum):
    """What a run does."""

    SHORT = "short"
    LONG = "long"


console = Console(highlight=False, width=120)


def main(
    seconds: Annotated[
        float | None, typer.Option(help="How long orders come in and faults happen; 180, long: 600.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Orders a second; 30, long: 100.")] = None,
    profile: Annotated[
        Profile, typer.Option(help="Small faults, or every disaster of a bad day and small faults.")
    ] = Profile.SHORT,
    size: Annotated[float, typer.Option(help="Of the disasters: 1 for minutes, on PostgreSQL.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Same seed, same faults; random without.")] = None,
    postgres: Annotated[bool, typer.Option("--postgres", help="PostgreSQL instead of SQLite.")] = False,
    keep: Annotated[Path | None, typer.Option(help="New directory that keeps logs, databases and spans.")] = None,
    show_plan: Annotated[bool, typer.Option("--plan", help="Show the faults of this seed and do nothing.")] = False,
) -> None:
    """Order and break at the same time, then do the accounts; ends with 1 when a promise was broken."""
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    is_long = profile is Profile.LONG
    seconds, rate = seconds or (600.0 if is_long else 180.0), rate or (100.0 if is_long else 30.0)
    console.print(f"seed [bold]{chosen}[/]: {seconds:.0f} s, at most {rate:.0f} orders a second, {profile} profile")
    if show_plan:
        if is_long:
            console.print("first every disaster, one after the other; then such small faults until the time is over:")
        for fault in planned(chosen, seconds):
            console.print(f"{fault.at:7.1f}  {fault}")
        return
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f}[/]  {line}")

    with tempfile.TemporaryDirectory(prefix="traced-orders-torture-") as temporary:
        directory = keep or Path(temporary)
        try:
            directory.mkdir(parents=True, exist_ok=keep is None)
        except OSError as error:
            raise typer.BadParameter(f"--keep makes a new directory: {error.strerror}, {keep}") from error
        directory = directory.resolve()
        result = asyncio.run(
            bad_day(seconds=seconds, rate=rate, seed=chosen, directory=directory, size=size, say=say)
            if is_long
            else torture(seconds=seconds, rate=rate, seed=chosen, directory=directory, use_postgres=postgres, say=say)
        )
    _show(result, chosen)
    raise typer.Exit(0 if result.is_ok else 1)


def _show(result: Result, seed: int) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for title, counts in (
        ("orders", result.outcomes),
        ("answers", result.codes),
        ("faults", result.faults),
        (f"spans lost by SIGKILL, of {result.spans}", result.lost_spans),
    ):
        table.add_row(title, ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none")
    table.add_row("last known of them before the kill", f"at most {result.longest_lag:.1f} s")
    table.add_row("longest time to outcome", f"{result.longest_to_outcome:.1f} s")
    table.add_row("settled after the last fault", f"{result.settled_after:.1f} s")
    table.add_row("longest delay of the run itself", f"{result.own_delay:.1f} s")
    console.print(table)
    console.print()
    if result.recoveries:
        console.print(_recoveries(result))
        console.print()
    checks = Table(box=None, show_header=False, pad_edge=False)
    for check in result.checks:
        mark = "[green]ok[/]" if check.is_ok else f"[red]{len(check.violations)} violations[/]"
        checks.add_row(check.name, f"[dim]{check.looked_at}[/]", mark)
    console.print(checks)
    for check in result.checks:
        if not check.is_ok:
            console.print(f"\n[red]{check.name}[/]")
            for violation in check.violations[:SHOWN]:
                console.print(f"  {violation}", markup=False)
    console.print(f"\n{'every promise was kept' if result.is_ok else '[red]promises were broken[/]'} (seed {seed})")


def _recoveries(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("disaster", "away s", "in time again after s", "allowed s"):
        table.add_column(title, justify="left" if title == "disaster" else "right")
    for each in result.recoveries:
        after = "never" if each.in_time_after is None else f"{each.in_time_after:.1f}"
        table.add_row(each.name, f"{each.away:.0f}", after, f"{each.allowed:.0f}")
    return table


if __name__ == "__main__":
    typer.run(main)
