"""The command line `orders`: puts its commands together, and turns a failure into a sentence and an exit code."""

import logging
import os
import sys

import typer
from pydantic import ValidationError

from shared.service.wrong_settings import sentences
from shared.tools.commands import dead_letters, load, observe, order, trace, watch
from shared.tools.commands.options import examples
from shared.tools.tool_error import ToolError

try:
    # The only door to what runs the system on one machine: the image of the services is built without it.
    import shared.tools.local.stack_commands as local_commands
except ModuleNotFoundError as missing:
    if not (missing.name or "").startswith("shared.tools.local"):
        raise
    local_commands = None  # type: ignore[assignment]

_LOCAL_EXAMPLES = ("orders demo # everything once, from nothing", "orders up # everything, until Ctrl-C")
_EXAMPLES = ("orders submit widget=2 gadget", "orders trace ORDER1", "orders watch")
_EXIT_CODES = (
    "It ends with 0 when all went well, 1 when something failed or is not there (one sentence on standard error says "
    "what), 2 for a command or a setting that was not understood, and 130 after Ctrl-C."
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Place orders, follow their traces" + (", run the whole system." if local_commands else "."),
    epilog=f"{examples(*(_LOCAL_EXAMPLES if local_commands else ()), *_EXAMPLES)}\n\n{_EXIT_CODES}",
)
if local_commands:
    local_commands.add_to(app)
app.command(epilog=order.SUBMIT_EXAMPLES)(order.submit)
app.command(epilog=order.SHOW_EXAMPLES)(order.show)
app.command(epilog=trace.EXAMPLES)(trace.trace)
app.command(epilog=load.EXAMPLES)(load.load)
app.command(epilog=watch.EXAMPLES)(watch.watch)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(observe.app, name="observe")


def main() -> None:
    """Run the command line; a failure is one sentence on standard error and exit code 1."""
    # They log at length what is told here in a sentence, or is no news to a person: that a command runs untraced.
    for name in ("aiormq", "asyncio", "opentelemetry", "shared"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        _run()
    except ValidationError as error:
        for sentence in sentences(error):
            print(f"orders: {sentence}", file=sys.stderr)
        sys.exit(2)
    except ToolError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"orders: {': '.join(filter(None, (error.filename, error.strerror or str(error))))}.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> None:
    """Run a command and write out what it printed: a full disk is told in time, and a reader that has gone is nothing to tell."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        # What is still held back would fail once more as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        raise
