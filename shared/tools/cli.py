"""The command line: `orders`."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.service.providers import TelemetrySettings
from shared.service.providers import start as start_telemetry
from shared.service.settings import load_environment
from shared.tools import dead_letters
from shared.tools.commands import load as load_command
from shared.tools.commands import observe as observe_command
from shared.tools.commands import scenarios as scenarios_command
from shared.tools.commands import watch as watch_command
from shared.tools.commands.options import (
    AMQP_URL,
    API_URL,
    TRACES_URL,
    AmqpUrl,
    Api,
    ApiKey,
    AsJson,
    Items,
    examples,
    read_item,
)
from shared.tools.consumption import WatchError
from shared.tools.dead_letters import DeadLetter, DeadLetterError
from shared.tools.local import demo as demonstration
from shared.tools.local.postgres import PostgresError
from shared.tools.local.rabbitmq import BrokerError
from shared.tools.local.stack import LOCAL_PASSWORD, LOCAL_USER, StackError, running_stack
from shared.tools.openobserve.reader import open_reader
from shared.tools.order_client import Answer, ApiError, OrderClient
from shared.tools.traces.model import span_to_json
from shared.tools.traces.readback import ReadbackError, is_whole
from shared.tools.traces.waterfall import printable, svg, waterfall

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Place orders, follow their traces, run the whole system.",
    epilog=examples(
        "orders demo # everything once, from nothing",
        "orders up # everything, until Ctrl-C",
        "orders submit widget=2 gadget",
        "orders trace ORDER1",
        "orders watch",
    )
    + "\n\nIt ends with 0 when all went well, 1 when something failed or is not there (one sentence on standard error says "
    "what), 2 for a command that was not understood, and 130 after Ctrl-C.",
)
console = Console(highlight=False)

OrderId = Annotated[str, typer.Argument(help="The order's id.", metavar="ORDER_ID")]


@app.command()
def demo() -> None:
    """Run everything once: a broker, both services, a dozen orders, and the traces they leave."""
    demonstration.run(console)


@app.command(epilog=examples("orders up", "orders up --workers 4 --apis 2 # on one PostgreSQL, where there is one"))
def up(
    workers: Annotated[int, typer.Option(min=1, max=16, help="Inventory workers that share the queue.")] = 1,
    apis: Annotated[int, typer.Option(min=1, max=16, help="Order APIs, each with a reply queue of its own.")] = 1,
) -> None:
    """Run everything until Ctrl-C, on the usual ports where they are free."""
    with running_stack(
        lambda line: console.print(f"[dim]{line}[/]"), usual_ports=True, apis=apis, workers=workers
    ) as stack:
        console.print()
        for what, services in (("orders", stack.apis), ("inventory", stack.workers)):
            for service in services:
                console.print(f"  {what:<9} {service.url}/docs")
        console.print(f"  traces    {stack.traces_url}")
        if stack.broker.management_url:
            console.print(f"  broker    {stack.broker.management_url}  (guest, guest)")
        console.print(f"  logs      {stack.logs}\n")
        api = "" if stack.api.url == API_URL else f" --api {stack.api.url}"
        console.print(f'  curl -X POST "{stack.api.url}/orders/create?order_id=ORDER1"')
        console.print(f"  .venv/bin/orders trace ORDER1{api}", soft_wrap=True)
        console.print(f"  .venv/bin/orders watch{watch_command.options_for(stack)}\n", soft_wrap=True)
        console.print("Ctrl-C ends it all.")
        stack.run_until_one_ends()


app.command(epilog=load_command.EXAMPLES)(load_command.load)
app.command(epilog=watch_command.EXAMPLES)(watch_command.watch)
app.command(epilog=scenarios_command.EXAMPLES)(scenarios_command.scenarios)


@app.command(
    epilog=examples("orders submit widget=2 gadget", "orders submit --id ORDER1 widget # again: the same order")
)
def submit(
    items: Items,
    order_id: Annotated[
        str | None, typer.Option("--id", help="An id of your own; the same id again is the same order.")
    ] = None,
    api: Api = API_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Place an order and show what became of it."""
    with OrderClient(api, api_key) as client:
        _show(client.submit(dict(map(read_item, items)), order_id), as_json)


@app.command(epilog=examples("orders show ORDER1", "orders show ORDER1 --json | jq -r .status"))
def show(order_id: OrderId, api: Api = API_URL, as_json: AsJson = False) -> None:
    """Show an order."""
    with OrderClient(api) as client:
        _show(client.read(order_id), as_json)


@app.command(
    epilog=examples(
        "orders trace ORDER1",
        "orders trace ORDER1 --svg order1.svg # a picture",
        "orders trace ORDER1 --json | jq '.spans[].name'",
    )
)
def trace(
    order_id: OrderId,
    api: Api = API_URL,
    svg_file: Annotated[
        typer.FileTextWrite | None, typer.Option("--svg", help="Write the waterfall as a picture.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the trace of an order as a waterfall."""
    settings = TelemetrySettings()
    url = settings.openobserve_url or TRACES_URL
    if settings.openobserve_user is None:
        settings = TelemetrySettings.model_validate(
            {"openobserve_user": LOCAL_USER, "openobserve_password": LOCAL_PASSWORD}
        )
    with OrderClient(api) as client:
        answer = client.read(order_id)
    _require_success(answer)
    trace_id = answer.body["trace_id"]
    if trace_id is None:
        raise ApiError(f"Order {order_id} was placed untraced.")
    came_in = datetime.fromisoformat(answer.body["created_at"])
    with open_reader(url, settings.openobserve_org, settings.openobserve_headers, came_in) as reader:
        found = reader.wait_for(trace_id, is_whole, timeout=5.0)
    if found is None:
        raise ReadbackError(f"{url} has no trace {trace_id}.")
    if svg_file is not None:
        svg_file.write(svg(found.spans, found.linked))
    elif as_json:
        spans, linked = ([span_to_json(span) for span in part] for part in (found.spans, found.linked))
        _print_json({"trace_id": trace_id, "spans": spans, "linked": linked})
    else:
        console.print(waterfall(found.spans, found.linked))


letters = typer.Typer(no_args_is_help=True, help="Look at dead letters, send them in again, or drop them.")
app.add_typer(letters, name="dead-letters")
app.add_typer(observe_command.app, name="observe")

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many to look at, oldest first.")]
Ids = Annotated[
    list[str] | None, typer.Argument(help="Ids of dead letters, or the beginnings of them.", metavar="ID...")
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@letters.command("list", epilog=examples("orders dead-letters list --limit 20"))
def list_dead_letters(amqp_url: AmqpUrl = AMQP_URL, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the dead letters, oldest first."""
    found = asyncio.run(dead_letters.find(amqp_url, limit))
    if as_json:
        _print_json([asdict(letter) for letter in found])
    elif not found:
        console.print("There are no dead letters.")
    else:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("id", "order", "reason", "attempts", "died at", "trace"):
            table.add_column(column, no_wrap=True)
        for letter in found:
            died_at = (letter.died_at or "")[:19].replace("T", " ")
            row = (
                letter.id[:8],
                letter.order_id or "",
                letter.reason,
                str(letter.attempts),
                died_at,
                (letter.trace_id or "")[:8],
            )
            table.add_row(*map(printable, row))
        console.print(table)


@letters.command("show", epilog=examples("orders dead-letters show 3f2a"))
def show_dead_letter(
    letter_id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="ID")],
    amqp_url: AmqpUrl = AMQP_URL,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter, with its body."""
    for letter in asyncio.run(dead_letters.find(amqp_url, limit)):
        if letter.id.startswith(letter_id):
            if as_json:
                _print_json(asdict(letter))
            else:
                for name, value in asdict(letter).items():
                    console.print(f"[dim]{name:<10}[/]", Text(printable(str(value or ""))), soft_wrap=True)
            return
    raise DeadLetterError(f"There is no dead letter {letter_id}.")


@letters.command("replay", epilog=examples("orders dead-letters replay 3f2a 77c0", "orders dead-letters replay --all"))
def replay_dead_letters(
    ids: Ids = None, every: All = False, amqp_url: AmqpUrl = AMQP_URL, limit: Limit = 1000, as_json: AsJson = False
) -> None:
    """Send dead letters in again; an order takes its stock once, however often it is replayed."""
    telemetry = start_telemetry("orders-cli", TelemetrySettings())
    try:
        _tell("replayed", asyncio.run(dead_letters.replay(amqp_url, _chooser(ids, every), limit)), as_json)
    finally:
        telemetry.shutdown()


@letters.command("drop", epilog=examples("orders dead-letters drop 3f2a"))
def drop_dead_letters(
    ids: Ids = None, every: All = False, amqp_url: AmqpUrl = AMQP_URL, limit: Limit = 1000, as_json: AsJson = False
) -> None:
    """Throw dead letters away."""
    _tell("dropped", asyncio.run(dead_letters.drop(amqp_url, _chooser(ids, every), limit)), as_json)


def _chooser(ids: list[str] | None, every: bool) -> Callable[[str], bool]:
    if every == bool(ids):
        raise typer.BadParameter("name the dead letters by their ids, or all of them with --all")
    beginnings = tuple(ids or ())
    return lambda letter_id: every or letter_id.startswith(beginnings)


def _tell(done: str, found: list[DeadLetter], as_json: bool) -> None:
    if as_json:
        _print_json([asdict(letter) for letter in found])
        return
    if not found:
        raise DeadLetterError("There is no such dead letter.")
    for letter in found:
        console.print(
            f"{done} {letter.id[:8]}", Text(printable(f"order {letter.order_id or '?'} ({letter.reason})"), "dim")
        )


def _show(answer: Answer, as_json: bool) -> None:
    _require_success(answer)
    if as_json:
        _print_json(answer.body)
        return
    for name, value in answer.body.items():
        if value is not None:
            shown = ", ".join(f"{item['quantity']} x {item['sku']}" for item in value) if name == "items" else value
            console.print(f"[dim]{name:<11}[/]{shown}", soft_wrap=True)


def _require_success(answer: Answer) -> None:
    if answer.status >= 400:
        raise ApiError(f"The order API answered {answer.status}: {answer.body.get('detail')}.")


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def main() -> None:
    """Run the command line; a failure is one sentence on standard error and exit code 1."""
    load_environment()
    # The AMQP client logs at length what is told here in a sentence.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        app()
    except (ApiError, BrokerError, DeadLetterError, PostgresError, ReadbackError, StackError, WatchError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
