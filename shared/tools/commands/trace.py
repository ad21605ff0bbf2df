"""`orders trace`: draws the trace of an order as a waterfall, or gives it as JSON or as a picture."""

from datetime import datetime
from typing import Annotated

import typer

from shared.tools.commands.backend import backend_settings
from shared.tools.commands.options import Api, AsJson, OrderId, examples
from shared.tools.commands.output import new_console, print_json
from shared.tools.defaults import API_URL, TRACES_URL
from shared.tools.openobserve.reader import open_reader
from shared.tools.order_client import ApiError, OrderClient
from shared.tools.traces.model import span_to_json
from shared.tools.traces.readback import ReadbackError, Trace, is_whole
from shared.tools.traces.waterfall import svg, waterfall

EXAMPLES = examples(
    "orders trace ORDER1",
    "orders trace ORDER1 --svg order1.svg # a picture",
    "orders trace ORDER1 --json | jq '.spans[].name'",
)
WHOLE_SECONDS = 5.0
"""How long a trace may take to be whole: services keep spans back before they export them."""


def trace(
    order_id: OrderId,
    api: Api = API_URL,
    svg_file: Annotated[
        typer.FileTextWrite | None, typer.Option("--svg", help="Write the waterfall as a picture.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the trace of an order as a waterfall."""
    with OrderClient(api) as client:
        order = client.read(order_id).require_success()
    trace_id = order["trace_id"]
    if trace_id is None:
        raise ApiError(f"Order {order_id} was placed untraced.")
    found = _read(trace_id, datetime.fromisoformat(order["created_at"]))
    if svg_file is not None:
        svg_file.write(svg(found.spans, found.linked))
    elif as_json:
        spans, linked = ([span_to_json(span) for span in part] for part in (found.spans, found.linked))
        print_json({"trace_id": trace_id, "spans": spans, "linked": linked})
    else:
        new_console().print(waterfall(found.spans, found.linked))


def _read(trace_id: str, came_in: datetime) -> Trace:
    settings = backend_settings()
    url = settings.openobserve_url or TRACES_URL
    with open_reader(url, settings.openobserve_org, settings.openobserve_headers, came_in) as reader:
        found = reader.wait_for(trace_id, is_whole, WHOLE_SECONDS)
    if found is None:
        raise ReadbackError(f"{url} has no trace {trace_id}.")
    return found
