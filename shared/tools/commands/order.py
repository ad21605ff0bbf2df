"""`orders submit` and `orders show`: place an order, and see what became of it."""

from typing import Annotated

import typer
from rich.text import Text

from shared.tools.commands.options import Api, ApiKey, AsJson, Items, OrderId, examples, read_item
from shared.tools.commands.output import new_console, print_json
from shared.tools.defaults import API_URL
from shared.tools.order_client import Answer, OrderClient
from shared.tools.printable import printable

SUBMIT_EXAMPLES = examples("orders submit widget=2 gadget", "orders submit --id ORDER1 widget # again: the same order")
SHOW_EXAMPLES = examples("orders show ORDER1", "orders show ORDER1 --json | jq -r .status")


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
        _print(client.submit(dict(map(read_item, items)), order_id), as_json)


def show(order_id: OrderId, api: Api = API_URL, as_json: AsJson = False) -> None:
    """Show an order."""
    with OrderClient(api) as client:
        _print(client.read(order_id), as_json)


def _print(answer: Answer, as_json: bool) -> None:
    order = answer.require_success()
    if as_json:
        print_json(order)
        return
    console = new_console()
    for name, value in order.items():
        if value is not None:
            shown = ", ".join(f"{item['quantity']} x {item['sku']}" for item in value) if name == "items" else value
            console.print(Text.assemble((f"{name:<11}", "dim"), printable(str(shown))), soft_wrap=True)
