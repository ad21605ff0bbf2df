"""`orders dead-letters`: look at them, send them in again, or drop them."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from shared.service.providers import start as start_telemetry
from shared.service.telemetry_settings import TelemetrySettings
from shared.tools.commands.interruption import stopping_on_ctrl_c
from shared.tools.commands.options import AmqpUrl, AsJson, examples
from shared.tools.commands.output import json_array, new_console, print_json
from shared.tools.commands.progress import progress_bar
from shared.tools.dead_letters import work
from shared.tools.dead_letters.errand import DROP, REPLAY, Errand
from shared.tools.dead_letters.letter import DeadLetter
from shared.tools.dead_letters.letter_queue import DeadLetterError
from shared.tools.dead_letters.work import Tally
from shared.tools.defaults import AMQP_URL
from shared.tools.printable import printable

app = typer.Typer(no_args_is_help=True, help="Look at dead letters, send them in again, or drop them.")

SHOWN_ID = 8
"""Characters of an id that are shown where so many tell the letters apart."""

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many to look at, oldest first.")]
Id = Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="ID")]
Ids = Annotated[
    list[str] | None, typer.Argument(help="Ids of dead letters, or the beginnings of them.", metavar="ID...")
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter that is there now.")]


@app.command("list", epilog=examples("orders dead-letters list --limit 20"))
def list_dead_letters(amqp_url: AmqpUrl = AMQP_URL, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the dead letters, oldest first."""
    if as_json:
        with json_array() as add:
            asyncio.run(work.look(amqp_url, limit, lambda letter: add(asdict(letter))))
        return
    rows: list[tuple[str, ...]] = []
    total = asyncio.run(work.look(amqp_url, limit, lambda letter: rows.append(_row(letter))))
    console = new_console()
    if not rows:
        console.print("There are no dead letters.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "order", "reason", "attempts", "died at", "trace"):
        table.add_column(column, no_wrap=True)
    length = _telling_apart([row[0] for row in rows])
    for letter_id, *others in rows:
        table.add_row(*map(Text, (letter_id[:length], *others)))
    console.print(table)
    if total > len(rows):
        console.print(f"\n{len(rows)} of {total} dead letters; --limit shows more.", style="dim")


@app.command("show", epilog=examples("orders dead-letters show 3f2a"))
def show_dead_letter(letter_id: Id, amqp_url: AmqpUrl = AMQP_URL, as_json: AsJson = False) -> None:
    """Show one dead letter, with its body."""
    letter = asyncio.run(work.show(amqp_url, *_ids([letter_id])))
    if as_json:
        print_json(asdict(letter))
        return
    console = new_console()
    for name, value in asdict(letter).items():
        console.print(f"[dim]{name:<14}[/]", Text(printable(str(value or ""))), soft_wrap=True)


@app.command(
    "replay",
    epilog=examples(
        "orders dead-letters replay 3f2a 77c0",
        "orders dead-letters replay --all # again where it was stopped: the rest",
    ),
)
def replay_dead_letters(
    ids: Ids = None, every: All = False, amqp_url: AmqpUrl = AMQP_URL, as_json: AsJson = False
) -> None:
    """Send dead letters in again where they came from; an order takes its stock once, however often it is replayed."""
    chosen = _ids_or_all(ids, every)
    telemetry = start_telemetry("orders-cli", TelemetrySettings())
    try:
        _run(REPLAY, amqp_url, chosen, as_json)
    finally:
        telemetry.shutdown()


@app.command("drop", epilog=examples("orders dead-letters drop 3f2a", "orders dead-letters drop --all"))
def drop_dead_letters(
    ids: Ids = None, every: All = False, amqp_url: AmqpUrl = AMQP_URL, as_json: AsJson = False
) -> None:
    """Throw dead letters away."""
    _run(DROP, amqp_url, _ids_or_all(ids, every), as_json)


def _ids_or_all(ids: list[str] | None, every: bool) -> list[str] | None:
    """Give the ids that were typed; None for all."""
    if every == bool(ids):
        raise typer.BadParameter("name the dead letters by their ids, or all of them with --all")
    return None if every else _ids(ids or [])


def _ids(typed: list[str]) -> list[str]:
    if not all(text.strip() for text in typed):
        raise typer.BadParameter("an id is empty, which would be the beginning of every id")
    return typed


def _run(errand: Errand, amqp_url: str, ids: list[str] | None, as_json: bool) -> None:
    if ids is None:
        _run_for_all(errand, amqp_url, as_json)
    else:
        with _told(errand, as_json) as on_done:
            asyncio.run(work.run_for_named(amqp_url, errand, ids, on_done))


@contextmanager
def _told(errand: Errand, as_json: bool) -> Iterator[Callable[[DeadLetter], None]]:
    """Tell of each letter: as an array, or a line for each."""
    if as_json:
        with json_array() as add:
            yield lambda letter: add(asdict(letter))
        return
    console = new_console()
    yield lambda letter: console.print(
        f"{errand.done} {letter.id[:SHOWN_ID]}",
        Text(printable(f"order {letter.order_id or '?'} ({letter.reason})"), "dim"),
        soft_wrap=True,
    )


def _run_for_all(errand: Errand, amqp_url: str, as_json: bool) -> None:
    console, tally = new_console(), Tally()

    async def run(on_done: Callable[[DeadLetter], None]) -> None:
        with stopping_on_ctrl_c() as is_stopped:
            await work.run_for_all(amqp_url, errand, tally, on_done, is_stopped)
            if is_stopped():
                print(
                    f"Stopped after {_so_many(errand, tally)}; the same command goes on with the rest.", file=sys.stderr
                )
                raise typer.Exit(130)

    if as_json:
        with json_array() as add:
            asyncio.run(run(lambda letter: add(asdict(letter))))
    else:
        with progress_bar(console, "dead letters") as advance:
            asyncio.run(run(lambda _: advance(tally.done, tally.total)))
        if tally.total:
            console.print(f"{_so_many(errand, tally)}.")
        else:
            console.print("There are no dead letters.")
    _tell_of_the_others(errand, tally)


def _so_many(errand: Errand, tally: Tally) -> str:
    return f"{tally.done} of {tally.total} dead letters were {errand.done}"


def _tell_of_the_others(errand: Errand, tally: Tally) -> None:
    """End with a sentence and 1 where not all were there to be had."""
    if tally.impossible:
        raise DeadLetterError(f"{tally.impossible} dead letters are undecodable and stay: they can only be dropped.")
    if tally.done < tally.total:
        raise DeadLetterError(f"Only {_so_many(errand, tally)}: somebody else has taken the others meanwhile.")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    died_at = (letter.died_at or "")[:19].replace("T", " ")
    attempts = "" if letter.attempts is None else str(letter.attempts)
    row = (letter.id, letter.order_id or "", letter.reason, attempts, died_at, (letter.trace_id or "")[:8])
    return tuple(map(printable, row))


def _telling_apart(ids: list[str]) -> int:
    """Give the fewest characters of these ids, and at least SHOWN_ID, that tell them apart."""
    different = set(ids)
    longest = max(map(len, different))
    return next(
        (n for n in range(SHOWN_ID, longest) if len({letter_id[:n] for letter_id in different}) == len(different)),
        max(SHOWN_ID, longest),
    )
