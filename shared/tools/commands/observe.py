"""`orders observe`: what a person does with OpenObserve."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from shared.service.telemetry_settings import TelemetrySettings
from shared.tools.commands.options import AsJson, examples
from shared.tools.commands.output import new_console, print_json
from shared.tools.openobserve.client import ObserveError, OpenObserve
from shared.tools.openobserve.ingestion_token import write_ingestion_token
from shared.tools.openobserve.setup import provision

app = typer.Typer(no_args_is_help=True, help="Set OpenObserve up.")

_STYLES = {"created": "green", "updated": "yellow", "skipped": "red"}


# Without a callback typer would make the only command the group itself.
app.callback()(lambda: None)


@app.command(
    epilog=examples(
        "OPENOBSERVE_URL=http://localhost:5080 orders observe setup",
        "orders observe setup --webhook https://chat.example.com/hooks/orders",
        "orders observe setup --token-file /run/openobserve/ingestion-token # for OPENOBSERVE_PASSWORD_FILE of the services",
        "orders observe setup --json | jq -r .dashboard_url",
    )
)
def setup(
    webhook: Annotated[
        str | None,
        typer.Option(envvar="ALERT_WEBHOOK_URL", help="Where the alerts are sent; without it nobody is told."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Write the organization's ingestion token, with which services may send and nothing else."),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for OpenObserve to come up.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Make the dashboard and the alerts, or put right what has changed; safe to repeat.

    OpenObserve is the one that OPENOBSERVE_URL, OPENOBSERVE_USER and OPENOBSERVE_PASSWORD name.
    """
    settings = TelemetrySettings()
    if settings.openobserve_url is None:
        raise ObserveError("Say where OpenObserve is: OPENOBSERVE_URL, OPENOBSERVE_USER, OPENOBSERVE_PASSWORD.")
    with OpenObserve(settings.openobserve_url, settings.openobserve_org, settings.openobserve_headers) as client:
        client.wait_until_up(wait)
        if token_file is not None:
            write_ingestion_token(client, token_file)
        steps = provision(client, settings.openobserve_public_url or client.url, webhook)
    address = next(step.address for step in steps if step.address)
    if as_json:
        print_json({"dashboard_url": address, "steps": [asdict(step) for step in steps]})
        return
    console = new_console()
    for step in steps:
        why = f" ({step.why})" if step.why else ""
        line = Text.assemble(
            (f"{step.what:<12}", "dim"), f"{step.name}  ", (step.done, _STYLES.get(step.done, "dim")), why
        )
        console.print(line, soft_wrap=True)
    console.print(f"\n{address}", soft_wrap=True)
