"""Sets OpenObserve up, as often as one likes: what is as it should be stays, what differs is put right, the rest is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.tools.openobserve import alerts as alerting
from shared.tools.openobserve import first_data
from shared.tools.openobserve.client import STREAM, ObserveError, OpenObserve
from shared.tools.openobserve.dashboard import FOLDER, TITLE, address, dashboard

_V2 = "v2/"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked after."""

    what: str
    name: str
    done: Literal["created", "updated", "unchanged", "skipped"]
    why: str = ""
    address: str = ""


def provision(client: OpenObserve, public_url: str, webhook: str | None = None) -> list[Step]:
    """Set up streams, dashboard and alerts, and say what was done; `public_url` is for people. Raises ObserveError."""
    streams = [_stream(client), _samples(client)]
    shown = _dashboard(client, public_url)
    return [*streams, shown, *_alerts(client, webhook, shown.address)]


def find_dashboard(client: OpenObserve) -> str | None:
    """Give the id of the dashboard; None where it is not set up. Raises ObserveError."""
    listed = client.call("GET", "dashboards", folder=FOLDER)["dashboards"]
    return next((str(item["dashboard_id"]) for item in listed if item["title"] == TITLE), None)


def _stream(client: OpenObserve) -> Step:
    if STREAM in first_data.streams(client, "traces"):
        return Step("stream", STREAM, "unchanged")
    first_data.send_span(client)
    return Step("stream", STREAM, "created", "by the first span, which was sent and read back")


def _samples(client: OpenObserve) -> Step:
    there = first_data.streams(client, "metrics")
    needed = {alert.stream: alert.columns for alert in alerting.ALERTS if alert.stream_type == "metrics"}
    missing = {name: labels for name, labels in needed.items() if name not in there}
    if not missing:
        return Step("metrics", "orders_*", "unchanged")
    first_data.send_samples(client, missing)
    return Step("metrics", "orders_*", "created", f"by a first 0 of {len(missing)}")


def _dashboard(client: OpenObserve, public_url: str) -> Step:
    wanted, identifier = dashboard(client.org), find_dashboard(client)
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
    return Step("dashboard", TITLE, done, address=address(public_url, client.org, identifier))


def _alerts(client: OpenObserve, webhook: str | None, dashboard_url: str) -> list[Step]:
    steps = [_named(client, "template", alerting.template(dashboard_url))]
    try:
        steps.append(_destination(client, webhook))
    except ObserveError as error:
        if webhook is not None or error.code != 400:
            raise
        why = f"it needs a webhook (--webhook), since {error}"
        return [*steps, *(Step("alert", alert.name, "skipped", why) for alert in alerting.ALERTS)]
    listed = client.call("GET", "alerts", version=_V2, folder=FOLDER)["list"]
    known = {item["name"]: item["alert_id"] for item in listed}
    return [*steps, *(_alert(client, alert, known.get(alert.name)) for alert in alerting.ALERTS)]


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


def _alert(client: OpenObserve, alert: alerting.Alert, identifier: str | None) -> Step:
    """Create an alert, or put right what it watches; where it goes and whether it is on is for people to change."""
    wanted = alert.as_stored()
    if identifier is None:
        new = {**wanted, "destinations": [alerting.CHANNEL], "enabled": True}
        client.call("POST", "alerts", new, version=_V2, folder=FOLDER)
        return Step("alert", alert.name, "created")
    stored = client.call("GET", f"alerts/{identifier}", version=_V2, folder=FOLDER)
    if _holds(stored, wanted):
        return Step("alert", alert.name, "unchanged")
    client.call("PUT", f"alerts/{identifier}", {**stored, **wanted}, version=_V2, folder=FOLDER)
    return Step("alert", alert.name, "updated")


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
