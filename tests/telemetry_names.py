"""Every name that telemetry may hold: those of the conventions, and those of the registries in `telemetry-schema/`."""

import re
from pathlib import Path

import opentelemetry.semconv
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
REGISTRIES = (ROOT / "telemetry-schema", ROOT / "shared" / "telemetry" / "telemetry-schema")
GROUPS = [group for each in REGISTRIES for group in yaml.safe_load((each / "registry.yaml").read_text())["groups"]]


def conventional() -> set[str]:
    """Give the attributes and metrics of the OpenTelemetry conventions that are installed here."""
    files = [file for place in opentelemetry.semconv.__path__ for file in Path(place).rglob("*.py")]
    found = {name for file in files for name in re.findall(r'= \(?\s*"([a-z][a-z0-9_.]+)"', file.read_text())}
    assert {"messaging.system", "messaging.process.duration", "http.route"} <= found
    return found


def own_attributes() -> set[str]:
    """Give the attributes that are ours."""
    return {attribute["id"] for group in GROUPS for attribute in group.get("attributes", ()) if "id" in attribute}


def own_metrics() -> dict[str, str]:
    """Give the unit of each metric that is ours."""
    return {group["metric_name"]: group["unit"] for group in GROUPS if group["type"] == "metric"}


def own_events() -> set[str]:
    """Give the events that are ours."""
    return {group["name"] for group in GROUPS if group["type"] == "event"}
