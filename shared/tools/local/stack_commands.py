"""The commands of `orders` that run the system on this machine: `demo`, `up`, `scenarios`."""

from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from shared.tools.commands.options import examples
from shared.tools.commands.output import new_console
from shared.tools.defaults import AMQP_URL, API_URL, TRACES_URL
from shared.tools.local import demo as demonstration
from shared.tools.local import play
from shared.tools.local.rabbitmq import Way
from shared.tools.local.stack import Stack, running_stack


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog=examples("orders demo # as often as you like: nothing of it stays"))(demo)
    app.command(epilog=examples("orders up", "orders up --workers 4 --apis 2 # on one PostgreSQL, where there is one"))(
        up
    )
    app.command(
        epilog=examples(
            "orders scenarios # each once, then everything ends",
            "orders scenarios --keep # and leave the trace page running",
        )
    )(scenarios)


def demo() -> None:
    """Run everything once: a broker, both services, a dozen orders, and the traces they leave."""
    demonstration.run(new_console())


def up(
    workers: Annotated[int, typer.Option(min=1, max=16, help="Inventory workers that share the queue.")] = 1,
    apis: Annotated[int, typer.Option(min=1, max=16, help="Order APIs, each with a reply queue of its own.")] = 1,
) -> None:
    """Run everything until Ctrl-C, on the usual ports where they are free."""
    console = new_console()
    with running_stack(
        lambda line: console.print(line, style="dim", markup=False), usual_ports=True, apis=apis, workers=workers
    ) as stack:
        _tell(console, stack)
        stack.run_until_one_ends()


def scenarios(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it all running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Play nine orders with real faults: killed workers, a database and a broker that are away. Show their traces."""
    play.play_all(new_console(), keep=keep)


def _tell(console: Console, stack: Stack) -> None:
    """Say where everything is, and what to type next."""
    console.print()
    for what, services in (("orders", stack.apis), ("inventory", stack.workers)):
        for service in services:
            console.print(f"  {what:<9} {service.url}/docs")
    if stack.traces_url:
        console.print(f"  traces    {stack.traces_url}")
    if stack.endpoint != stack.traces_url:
        console.print(f"  telemetry goes to {stack.endpoint}, a Collector")
    if stack.broker.management_url:
        console.print(f"  broker    {stack.broker.management_url}  (guest, guest)")
    console.print(f"  logs      {stack.logs}\n")
    api = "" if stack.api.url == API_URL else f" --api {stack.api.url}"
    key = "" if stack.api_key is None else '-H "X-API-Key: $ORDER_API_KEY" '
    console.print(f'  curl {key}-X POST "{stack.api.url}/orders/create?order_id=ORDER1"')
    console.print(f"  .venv/bin/orders trace ORDER1{api}{_option_for_traces(stack)}", soft_wrap=True)
    console.print(f"  .venv/bin/orders watch{_options_for_watch(stack)}\n", soft_wrap=True)
    if stack.is_embedded:
        console.print("  another service of yours sends its traces here, too, with")
        console.print(f"    OTEL_EXPORTER_OTLP_ENDPOINT={stack.endpoint}", soft_wrap=True)
        headers = ",".join(f"{name}={quote(value)}" for name, value in stack.telemetry.openobserve_headers.items())
        console.print(f"    OTEL_EXPORTER_OTLP_HEADERS={headers}\n", soft_wrap=True)
    console.print("Ctrl-C ends it all.")


def _options_for_watch(stack: Stack) -> str:
    """Write the options that let `orders watch` find a stack, none where it is on the usual ports."""
    options = ""
    # An address that was given is known, and may hold a password.
    if stack.broker.way is not Way.GIVEN and stack.broker.amqp_url != AMQP_URL:
        options += f" --amqp-url {stack.broker.amqp_url}"
        if stack.broker.management_url is not None:
            options += f" --management-url {stack.broker.management_url}"
    return options + _option_for_traces(stack)


def _option_for_traces(stack: Stack) -> str:
    is_elsewhere = stack.is_embedded and stack.traces_url not in (None, TRACES_URL)
    return f" --traces-url {stack.traces_url}" if is_elsewhere else ""
