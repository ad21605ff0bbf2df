"""What OpenObserve's server says against a dashboard: its model (which keys must be there) and its checks of version 8."""

from collections.abc import Iterator
from typing import Any

_CHART_NAMES = (
    "area line bar scatter area-stacked donut pie h-bar stacked h-stacked heatmap metric gauge geomap maps table sankey "
    "custom_chart html markdown"
)
_CHARTS = frozenset(_CHART_NAMES.split())
_STREAM_TYPES = ("logs", "metrics", "traces")
_GRID_COLUMNS = 192


def complaints(dashboard: dict[str, Any]) -> list[str]:
    """Give everything that is wrong with a dashboard; nothing where it would be stored."""
    return list(_of_dashboard(dashboard))


def _of_dashboard(dashboard: dict[str, Any]) -> Iterator[str]:
    if dashboard.get("version") != 8:
        yield "version is not 8"
    if not str(dashboard.get("title", "")).strip():
        yield "Dashboard title is required"
    if not dashboard.get("tabs"):
        yield "Dashboard must have at least one tab"
        return
    panels = [panel for tab in dashboard["tabs"] for panel in tab.get("panels", [])]
    for tab in dashboard["tabs"]:
        if not tab.get("tabId") or not tab.get("name"):
            yield "a tab has no tabId or no name"
        numbers = [panel.get("layout", {}).get("i") for panel in tab.get("panels", [])]
        if len(set(numbers)) < len(numbers):
            yield "Duplicate layout.i value in tab"
    if len({panel.get("id") for panel in panels}) < len(panels):
        yield "Duplicate panel ID found"
    for panel in panels:
        for complaint in _of_panel(panel):
            yield f"panel {panel.get('id')}: {complaint}"


def _of_panel(panel: dict[str, Any]) -> Iterator[str]:
    for key in ("id", "type", "title", "description", "config", "queries"):
        if key not in panel:
            yield f"missing field `{key}`"
    if panel.get("type") not in _CHARTS:
        yield "Chart type is not supported"
    if not isinstance(panel.get("config", {}).get("show_legends"), bool):
        yield "missing field `show_legends`"
    layout = panel.get("layout", {})
    if not all(isinstance(layout.get(side), int) for side in "xywh"):
        yield "layout needs x, y, w and h"
    # The pages lay panels out on this grid; the server stores whatever it is given.
    elif not (layout["w"] > 0 and layout["h"] > 0 and layout["x"] + layout["w"] <= _GRID_COLUMNS):
        yield "it does not fit on the grid"
    for query in panel.get("queries", []):
        yield from _of_query(panel, query)


def _of_query(panel: dict[str, Any], query: dict[str, Any]) -> Iterator[str]:
    fields = query.get("fields", {})
    if not isinstance(query.get("customQuery"), bool):
        yield "missing field `customQuery`"
    if "promql_legend" not in query.get("config", {}):
        yield "missing field `promql_legend`"
    if fields.get("stream_type") not in _STREAM_TYPES or not isinstance(fields.get("stream"), str):
        yield "fields need stream and stream_type"
    if not isinstance(fields.get("x"), list) or not isinstance(fields.get("y"), list):
        yield "fields need x and y"
    for axis in (*fields.get("x", []), *fields.get("y", [])):
        if not {"label", "alias"} <= axis.keys():
            yield "an axis needs label and alias"
    if not {"filterType", "logicalOperator", "conditions"} <= dict(fields.get("filter", {})).keys():
        yield "the filter matches no variant"
    if panel.get("queryType") == "promql" and fields.get("stream_type") != "metrics":
        yield "PromQL asks metrics"
