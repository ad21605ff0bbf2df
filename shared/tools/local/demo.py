"""The demonstration: real orders against a real stack, every answer, and the traces they leave."""

import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.tools.local.stack import Stack, StackError, running_stack
from shared.tools.local.surroundings import PLAIN_SETTINGS
from shared.tools.order_client import Answer, OrderClient
from shared.tools.traces.readback import Trace, commits, is_whole
from shared.tools.traces.waterfall import waterfall

REPLY_TIMEOUT = 1.0
"""Seconds that a request of the demonstration waits: short, so that the late reply does not hold it up."""
TRACE_SECONDS = 15.0
OUTCOME_SECONDS = 20.0


def run(console: Console) -> None:
    """Start everything, submit a dozen orders, show what became of them, and stop everything again."""
    started = time.monotonic()
    with running_stack(
        lambda line: console.print(line, style="dim", markup=False),
        usual_ports=False,
        overrides={**PLAIN_SETTINGS, "REPLY_TIMEOUT": str(REPLY_TIMEOUT)},
    ) as stack:
        console.print(f"[dim]ready after {time.monotonic() - started:.1f} s[/]\n")
        with OrderClient(stack.api.url, stack.api_key) as client:
            tenth, late = _submit_orders(console, client, stack)
        if stack.traces_url is None:
            console.print(f"The traces went to {stack.endpoint}, which has no page.", soft_wrap=True)
        else:
            _show_traces(console, stack, tenth, late)
    console.print(
        f"\nDone in {time.monotonic() - started:.0f} s; everything that was started has ended."
        "\nNext: [bold]make up[/] leaves it running, with the trace page, the API page and your own orders."
    )


def _submit_orders(console: Console, client: OrderClient, stack: Stack) -> tuple[Answer, Answer]:
    """Submit the orders and print each answer; returns the tenth one and the one that was answered late."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("request", "HTTP", "status", "trace"):
        table.add_column(column, no_wrap=True)
    orders = [(f"ORDER{number}", client.create(f"ORDER{number}")) for number in range(1, 11)]
    for order_id, answer in orders:
        _add(table, f"POST /orders/create?order_id={order_id}", answer)
    _add(table, "POST /orders  ORDER11: 5 x gadget", client.submit({"gadget": 5}, "ORDER11"))
    _add(table, "POST /orders/create?order_id=ORDER10 again", client.create("ORDER10"))
    with stack.worker.paused():
        late = client.submit({"widget": 1}, "ORDER12")
        _add(table, "POST /orders  ORDER12, worker paused", late)
    _add(table, "GET  /orders/ORDER12, worker back", client.wait_while("ORDER12", "pending", OUTCOME_SECONDS))
    console.print(table)
    return orders[-1][1], late


def _add(table: Table, request: str, answer: Answer) -> None:
    if answer.status >= 400:
        raise StackError(f"{request} was answered {answer.status}: {answer.body.get('detail')}")
    status = answer.body["status"]
    style = {"success": "green", "out_of_stock": "yellow", "pending": "cyan"}.get(status, "red")
    table.add_row(request, str(answer.status), Text(status, style), (answer.trace_id or "")[:8])


def _show_traces(console: Console, stack: Stack, tenth: Answer, late: Answer) -> None:
    with stack.open_reader() as reader:
        for title, answer in (
            ("One order, one trace: ORDER10 through API, queue, worker, reply queue and back", tenth),
            ("A reply that came late: ORDER12 was answered 202 and completed after the worker was back", late),
        ):
            trace = reader.wait_for(answer.trace_id or "", _is_shown_whole, TRACE_SECONDS)
            if trace is None or not is_whole(trace):
                raise StackError(f"The trace {answer.trace_id} did not arrive whole within {TRACE_SECONDS:.0f} s.")
            console.print(f"\n[bold]{title}[/]")
            console.print(waterfall(trace.spans, trace.linked))
            if not stack.is_embedded:
                console.print(reader.address(trace), soft_wrap=True)


def _is_shown_whole(trace: Trace) -> bool:
    """Tell whether the trace is whole and its three group commits have arrived: stored, reserved, recorded."""
    return is_whole(trace) and len(commits(trace)) >= 3
