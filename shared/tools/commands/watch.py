"""`orders watch`: a live view of how the checks are consumed, or one snapshot of it."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.tools.commands.backend import backend_settings
from shared.tools.commands.options import AmqpUrl, AsJson, examples
from shared.tools.commands.output import new_console, print_json
from shared.tools.defaults import AMQP_URL, TRACES_URL
from shared.tools.printable import printable
from shared.tools.queue_reader import QueueState, QueuesUnreadable, read_queues
from shared.tools.recent_orders import OrdersState, OrdersUnreadable, read_orders
from shared.tools.tool_error import ToolError
from shared.tools.traces.waterfall import milliseconds

EXAMPLES = examples(
    "orders watch # until Ctrl-C",
    "orders watch --once # one look",
    "orders watch --json | jq .queue.ready",
    "orders watch --management-url http://127.0.0.1:15672 # queues of another broker",
)
STATUS_STYLES = {"success": "green", "out_of_stock": "yellow", "pending": "cyan"}


class WatchError(ToolError):
    """There is nothing to watch; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look: what could be read, and in `notes` why the rest could not."""

    at: float
    queue: QueueState | None
    orders: OrdersState | None
    notes: list[str]


def watch(
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot and end.")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds from one look to the next.")] = 1.0,
    last: Annotated[int, typer.Option(min=0, max=50, help="How many of the last orders to show.")] = 10,
    amqp_url: AmqpUrl = AMQP_URL,
    management_url: Annotated[
        str | None,
        typer.Option(
            envvar="RABBITMQ_MANAGEMENT_URL",
            help="The broker's management interface, which knows more than AMQP tells; default: 10,000 ports above AMQP.",
        ),
    ] = None,
    traces_url: Annotated[
        str, typer.Option(envvar="OPENOBSERVE_URL", help="The embedded receiver, which has the orders.")
    ] = TRACES_URL,
    as_json: AsJson = False,
) -> None:
    """Watch the checks being consumed: rate, outcomes, queue depth, in flight at the workers, the last orders.

    The broker counts every 5 s, the orders come from the traces of the last thousand; a `?` is not known.

    What is not there is named, and looked for again. It ends with 1 when there is nothing to watch to begin with.
    """
    settings = backend_settings()

    def look() -> Snapshot:
        notes: list[str] = []
        queue = orders = None
        try:
            queue = read_queues(amqp_url, management_url)
        except QueuesUnreadable as error:
            notes.append(str(error))
        try:
            orders = read_orders(traces_url, settings.openobserve_org, settings.openobserve_headers)
        except OrdersUnreadable as error:
            notes.append(str(error))
        return Snapshot(time.time(), queue, orders, notes)

    console = new_console()
    first = look()
    if first.queue is None and first.orders is None:
        raise WatchError(f"There is nothing to watch, `make up` starts something: {', and '.join(first.notes)}.")
    if as_json:
        print_json(_as_json(first, last))
    elif once or not console.is_terminal:
        console.print(view(first, last))
    else:
        with Live(view(first, last), console=console, auto_refresh=False) as live:
            try:
                while True:
                    time.sleep(every)
                    live.update(view(look(), last), refresh=True)
            except KeyboardInterrupt:
                return  # the way to end it


def view(snapshot: Snapshot, last: int) -> RenderableType:
    """Draw a snapshot."""
    return Group(*_lines(snapshot, last))


def _lines(snapshot: Snapshot, last: int) -> Iterator[RenderableType]:
    queue, orders = snapshot.queue, snapshot.orders
    sources = [part.source for part in (queue, orders) if part is not None]
    yield Text(f"{time.strftime('%H:%M:%S', time.localtime(snapshot.at))}  {printable('  '.join(sources))}", "dim")
    rates = {
        "orders/s": None if orders is None else orders.per_second,
        "consumed/s": None if queue is None else queue.consumed_per_second,
    }
    yield _row("rate", [f"{name} {'?' if rate is None else f'{rate:.1f}'}" for name, rate in rates.items()])
    if queue is not None:
        depth = {
            "ready": queue.ready,
            "in flight": "?" if queue.in_flight is None else queue.in_flight,
            "consumers": queue.consumers,
            "retrying": queue.waiting_for_retry,
            "dead": queue.dead_letters,
        }
        yield _row("checks", [f"{name} {count}" for name, count in depth.items()])
    if orders is not None:
        counts = [f"{printable(status)} {count}" for status, count in orders.outcomes.items()]
        yield _row("outcomes", [*counts, f"(of the last {len(orders.newest)})"] if counts else ["no orders yet"])
        if last and orders.newest:
            yield ""
            yield _last_orders(orders, last)
    for note in snapshot.notes:
        yield Text(printable(note[:1].upper() + note[1:] + "."), "red")


def _row(name: str, parts: list[str]) -> Text:
    return Text.assemble((f"{name:<10}", "dim"), "   ".join(parts))


def _last_orders(orders: OrdersState, last: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("placed", no_wrap=True)
    table.add_column("order", no_wrap=True, max_width=36)
    table.add_column("status", no_wrap=True)
    table.add_column("ms", no_wrap=True, justify="right")
    table.add_column("trace", no_wrap=True)
    for order in orders.newest[:last]:
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(order.placed_at)),
            Text(printable(order.order_id)),
            Text(printable(order.status), STATUS_STYLES.get(order.status, "red")),
            milliseconds(int(order.ms * 1e6)),
            order.trace_id[:8],
        )
    return table


def _as_json(snapshot: Snapshot, last: int) -> dict[str, Any]:
    found = asdict(snapshot)
    if snapshot.orders is not None:
        found["orders"]["looked_at"] = len(snapshot.orders.newest)
        found["orders"]["newest"] = found["orders"]["newest"][:last]
    return found
