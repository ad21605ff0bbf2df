"""Options that several commands of `orders` share, and how each command's examples are written."""

from typing import Annotated

import typer

Api = Annotated[str, typer.Option("--api", envvar="ORDER_API_URL", help="Where the order API is.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="ORDER_API_KEY", help="Its key, where it asks for one.")
]
AmqpUrl = Annotated[str, typer.Option("--amqp-url", envvar="AMQP_URL", help="Where the broker is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Items = Annotated[list[str], typer.Argument(help="What to order, as SKU or SKU=QUANTITY.", metavar="SKU[=N]...")]
OrderId = Annotated[str, typer.Argument(help="The order's id.", metavar="ORDER_ID")]


def read_item(text: str) -> tuple[str, int]:
    """Read SKU or SKU=QUANTITY."""
    sku, equals, quantity = text.partition("=")
    if not sku or (equals and not quantity.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not SKU or SKU=QUANTITY")
    return sku, int(quantity or 1)


def examples(*lines: str) -> str:
    """Write the end of a command's help: each line a command and, after ` # `, what it does."""
    shown = []
    for line in lines:
        command, _, meaning = line.partition(" # ")
        shown.append(f"[bold]{command}[/]" + (f"  [dim]{meaning}[/]" if meaning else ""))
    return "\n".join(["[dim]Examples[/]", *shown])
