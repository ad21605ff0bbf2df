"""Sets OpenObserve up, as often as one likes: what is as it should be stays, what differs is put right, the rest is made."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import format_trace_id

from shared.service.providers import span_exporter
from shared.service.telemetry_settings import TelemetrySettings
from shared.tools.openobserve import alert as alerting
from shared.tools.openobserve.client import STREAM, ObserveError, OpenObserve
from shared.tools.openobserve.dashboard import TAB, TITLE, dashboard

FOLDER = "default"
FIRST_SPAN_SECONDS = 15.0
_V2 = "v2/"
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked after."""

    what: str
    name: str
    done: Literal["created", "updated", "unchanged", "skipped"]
    why: str = ""
    address: str = ""


def provision(client: OpenObserve, settings: TelemetrySettings, webhook: str | None = None) -> list[Step]:
    """Set up stream, dashboard and alert, and say what was done. Raises ObserveError."""
    return [
        _stream(client, settings),
        _dashboard(client, settings.openobserve_public_url or client.url),
        *_alert(client, webhook),
    ]


def _stream(client: OpenObserve, settings: TelemetrySettings) -> Step:
    """See to it that the stream of spans exists, which an alert needs, by sending the span of this very setup.

    It proves the way in, too: an export that was answered 200 may still not be there. So we look.
    """
    try:
        listed = client.call("GET", "streams", type="traces", fetchSchema="false")["list"]
    except ObserveError as error:
        if error.code != 404:
            raise
        # There is no such organization: the first span makes it.
        listed = []
    if any(stream["name"] == STREAM for stream in listed):
        return Step("stream", STREAM, "unchanged")
    exporter = span_exporter(settings, {})
    if exporter is None:
        raise ObserveError("OPENOBSERVE_URL is not set.")
    resource = Resource.create({"service.name": "orders-cli"})
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    started_us = time.time_ns() // 1000
    with provider.get_tracer("traced-orders").start_as_current_span("observe setup") as span:
        context = span.get_span_context()
    provider.shutdown()
    if not context.is_valid:
        raise ObserveError("The alert needs a first span, and OTEL_SDK_DISABLED says that there is to be none.")
    trace_id = format_trace_id(context.trace_id)
    looking = f"SELECT span_id FROM \"{STREAM}\" WHERE trace_id = '{trace_id}'"  # noqa: S608
    deadline = time.monotonic() + FIRST_SPAN_SECONDS
    while not client.search(looking, started_us - 1, time.time_ns() // 1000 + 60_000_000, 1):
        if time.monotonic() > deadline:
            raise ObserveError(f"{client.url} does not show the span that it was sent.")
        time.sleep(_LOOK_SECONDS)
    return Step("stream", STREAM, "created", "by the first span, which was sent and read back")


def _dashboard(client: OpenObserve, public_url: str) -> Step:
    wanted = dashboard()
    listed = client.call("GET", "dashboards", folder=FOLDER)["dashboards"]
    identifier = next((item["dashboard_id"] for item in listed if item["title"] == TITLE), None)
    done: Literal["created", "updated", "unchanged"]
    if identifier is None:
        made = client.call("POST", "dashboards", wanted, folder=FOLDER)
        identifier, done = made["v8"]["dashboardId"], "created"
    else:
        found = client.call("GET", f"dashboards/{identifier}", folder=FOLDER)
        stored = found.get("v8") or {}
        done = "unchanged" if _holds(stored, wanted) else "updated"
        if done == "updated":
            # The hash is that of the version that is replaced: a change made meanwhile is refused, not lost.
            client.call("PUT", f"dashboards/{identifier}", {**stored, **wanted}, folder=FOLDER, hash=found["hash"])
    address = (
        f"{public_url.rstrip('/')}/web/dashboards/view?org_identifier={client.org}&dashboard={identifier}"
        f"&folder={FOLDER}&tab={TAB}"
    )
    return Step("dashboard", TITLE, done, address=address)


def _alert(client: OpenObserve, webhook: str | None) -> list[Step]:
    steps = [_named(client, "template", alerting.template())]
    try:
        steps.append(_destination(client, webhook))
    except ObserveError as error:
        if webhook is not None or error.code != 400:
            raise
        why = f"it needs a webhook (--webhook), since {error}"
        return [*steps, Step("alert", alerting.NAME, "skipped", why)]
    return [*steps, _alert_itself(client)]


def _destination(client: OpenObserve, webhook: str | None) -> Step:
    """Write the destination; without a webhook, one that is there already stays as it is: somebody has set it."""
    wanted = alerting.destination(webhook)
    if webhook is None and client.find(f"alerts/destinations/{wanted['name']}") is not None:
        return Step("destination", wanted["name"], "unchanged")
    return _named(client, "destination", wanted)


def _named(client: OpenObserve, what: str, wanted: Mapping[str, Any]) -> Step:
    """Create or update a template or destination, which goes by its name."""
    path, name = f"alerts/{what}s", wanted["name"]
    stored = client.find(f"{path}/{name}")
    if stored is None:
        client.call("POST", path, wanted)
        return Step(what, name, "created")
    if _holds(stored, wanted):
        return Step(what, name, "unchanged")
    client.call("PUT", f"{path}/{name}", wanted)
    return Step(what, name, "updated")


def _alert_itself(client: OpenObserve) -> Step:
    """Create the alert, or put right what it watches; where it goes and whether it is on is for people to change."""
    wanted = alerting.alert()
    listed = client.call("GET", "alerts", version=_V2, folder=FOLDER)["list"]
    identifier = next((item["alert_id"] for item in listed if item["name"] == alerting.NAME), None)
    if identifier is None:
        new = {**wanted, "destinations": [alerting.CHANNEL], "enabled": True}
        client.call("POST", "alerts", new, version=_V2, folder=FOLDER)
        return Step("alert", alerting.NAME, "created")
    stored = client.call("GET", f"alerts/{identifier}", version=_V2, folder=FOLDER)
    if _holds(stored, wanted):
        return Step("alert", alerting.NAME, "unchanged")
    client.call("PUT", f"alerts/{identifier}", {**stored, **wanted}, version=_V2, folder=FOLDER)
    return Step("alert", alerting.NAME, "updated")


def _holds(stored: Any, wanted: Any) -> bool:
    """Tell whether what is stored is what is wanted, apart from what the server adds: defaults, owner, times.

    A value that is wanted as None or empty may be missing: the server leaves such out.
    """
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(
            _holds(stored.get(key), value) if key in stored else value in (None, "", {})
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(stored, list) and len(stored) == len(wanted) and all(map(_holds, stored, wanted))
    return bool(stored == wanted)
