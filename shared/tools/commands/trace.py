"""`orders trace`: draws the trace of an order as a waterfall, or gives it as JSON or as a picture."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.tools.commands.backend import backend_settings
from shared.tools.commands.options import Api, AsJson, examples
from shared.tools.commands.output import new_console, print_json
from shared.tools.defaults import API_URL, TRACES_URL
from shared.tools.openobserve.reader import open_reader
from shared.tools.order_client import ApiError, OrderClient
from shared.tools.traces.model import span_to_json
from shared.tools.traces.otlp_file import from_otlp_json, to_otlp_json
from shared.tools.traces.otlp_requests import Unreadable
from shared.tools.traces.readback import ReadbackError, Reader, Trace, is_whole
from shared.tools.traces.sequence import arrows_of, sequence_svg
from shared.tools.traces.waterfall import svg, waterfall

EXAMPLES = examples(
    "orders trace ORDER1",
    "orders trace 4bf92f3577b34da6a3ce929d0e0e4736 # a trace by its id",
    "orders trace ORDER1 --svg order1.svg # a picture",
    "orders trace ORDER1 --sequence who.svg # who asked whom",
    "orders trace ORDER1 --export order1.json # for Jaeger, a Collector, or a colleague",
    "orders trace order1.json # and back",
    "orders trace ORDER1 --json | jq '.spans[].name'",
)
WHOLE_SECONDS = 5.0
"""How long a trace may take to be whole: services keep spans back before they export them."""


TRACE_ID_REACH = timedelta(days=7)
"""How far back a trace is looked for of which only the id is known."""


def trace(
    what: Annotated[str, typer.Argument(help="An order's id, a trace's, or a file.", metavar="ORDER_ID|TRACE_ID|FILE")],
    api: Api = API_URL,
    svg_file: Annotated[
        typer.FileTextWrite | None, typer.Option("--svg", help="Write the waterfall as a picture.")
    ] = None,
    sequence_file: Annotated[
        typer.FileTextWrite | None, typer.Option("--sequence", help="Write who asked whom as a sequence diagram (SVG).")
    ] = None,
    export_file: Annotated[
        typer.FileTextWrite | None,
        typer.Option("--export", help="Write its spans, and those that link to it, as OTLP JSON."),
    ] = None,
    traces_url: Annotated[
        str | None,
        typer.Option(
            help=f"Where traces are kept; default: OPENOBSERVE_URL, or else {TRACES_URL}.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a trace as a waterfall: of an order, by its own id, or from a file of OTLP JSON."""
    with _reading(what, api, traces_url) as (reader, found, order_id):
        if export_file is not None:
            export_file.write(to_otlp_json([*found.spans, *found.linked]) + "\n")
        elif sequence_file is not None:
            sequence_file.write(sequence_svg(arrows_of(found.spans, found.linked), standalone=True))
        elif svg_file is not None:
            svg_file.write(svg(found.spans, found.linked))
        elif as_json:
            spans, linked = ([span_to_json(span) for span in part] for part in (found.spans, found.linked))
            print_json({"trace_id": found.trace_id, "spans": spans, "linked": linked})
        else:
            console = new_console()
            console.print(waterfall(found.spans, found.linked))
            if reader is not None:
                _print_addresses(console, reader, found, order_id)


@contextmanager
def _reading(what: str, api: str, traces_url: str | None) -> Iterator[tuple[Reader | None, Trace, str | None]]:
    """Find a trace, and give it with the reader that it came from and the order's id, where there is one."""
    if Path(what).suffix and Path(what).is_file():
        yield None, _from_file(Path(what)), None
        return
    if "/" in what:
        raise ReadbackError(f"There is no file {what}.")
    order = _order(what, api)
    if order is None:
        trace_id, order_id, since = what.lower(), None, datetime.now(UTC) - TRACE_ID_REACH
    elif order["trace_id"] is None:
        raise ApiError(f"Order {what} was placed untraced.")
    else:
        trace_id, order_id, since = order["trace_id"], what, datetime.fromisoformat(order["created_at"])
    settings = backend_settings()
    url = traces_url or settings.openobserve_url or TRACES_URL
    with open_reader(url, settings, since) as reader:
        found = reader.wait_for(trace_id, is_whole, WHOLE_SECONDS if order_id else 0)
        if found is None:
            raise ReadbackError(f"{url} has no trace {trace_id}.")
        yield reader, found, order_id


def _order(what: str, api: str) -> dict[str, Any] | None:
    """Give the order with this id; None where it is a trace's id and no order's, which may look alike."""
    is_like_a_trace_id = re.fullmatch("[0-9a-f]{32}", what.lower()) is not None
    try:
        with OrderClient(api) as client:
            return client.look(what).require_success()
    except ApiError:
        if is_like_a_trace_id:
            return None
        raise


def _from_file(path: Path) -> Trace:
    """Read the first trace of a file; the others in it are those that link to it."""
    try:
        spans = [span for span in from_otlp_json(path.read_bytes()) if span.trace_id and span.span_id]
    except (OSError, Unreadable) as error:
        raise ReadbackError(f"{path} is no file of traces in OTLP JSON: {error}.") from error
    if not spans:
        raise ReadbackError(f"{path} holds no span.")
    trace_id = spans[0].trace_id
    own = [span for span in spans if span.trace_id == trace_id]
    return Trace(trace_id, own, [span for span in spans if span.trace_id != trace_id])


def _print_addresses(console: Console, reader: Reader, found: Trace, order_id: str | None) -> None:
    console.print(f"\n{reader.address(found)}", soft_wrap=True)
    if order_id is not None and (address := reader.order_address(order_id)) is not None:
        console.print(address, soft_wrap=True)
