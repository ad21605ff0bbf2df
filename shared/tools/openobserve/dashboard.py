"""The dashboard in the form that OpenObserve stores it in: tabs with panels on a grid, and the variable of one order.

Where the form comes from: the dashboard model of OpenObserve's own sources, version 8. A tab needs its id and name; a panel id,
type, title, description, config with `show_legends`, and a layout on a grid of 192 columns; a query `customQuery`, `fields` with
stream, x, y and a filter group, and `config.promql_legend`, for SQL too. Keys of panels and queries are in camel case, those of
`config` and `fields` are not.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from shared.tools.openobserve.client import STREAM
from shared.tools.openobserve.panels import ORDERS, Panel
from shared.tools.openobserve.queue_panels import QUEUES
from shared.tools.openobserve.tables import (
    FAILED,
    ORDER_LINKED,
    ORDER_LOGS,
    ORDER_SPANS,
    ORDER_VARIABLE,
    SLOWEST,
    Table,
)

TITLE = "Traced Orders"
FOLDER = "default"
TAB, QUEUES_TAB, ORDER_TAB = "default", "queues", "one-order"
REFRESH = "30s"
"""A dashboard opens with its refresh off, unless its address says how often."""
PERIOD = "15m"
CHARTS = (*ORDERS, *QUEUES)
TABLES = (SLOWEST, FAILED, ORDER_SPANS, ORDER_LINKED, ORDER_LOGS)
_GRID_COLUMNS = 192
_ROW_HEIGHT, _NOTE_HEIGHT = 18, 8
_KNOWN_UNITS = frozenset({"seconds"})

_WHAT_TO_LOOK_AT = (
    "**First** orders by outcome: is there red, does it stop? **Then** end to end beside request: where they part, orders wait "
    "longer than their callers. Queue wait grows when workers are too few (tab *Queues*), processing when the database is slow. "
    "Retries and dead letters should be flat at 0; of dropped spans one is enough to distrust what the traces do not show. "
    "A row of a table leads to its trace; the tab *One order* shows all that is known of one."
)
_QUEUES_NOTE = (
    "A queue that only grows has too few consumers, or none. Dead letters wait for a person: `orders dead-letters list`. "
    "One instance asks the broker; where it has no management interface, unacked, rates and ages stay empty."
)
_ORDER_NOTE = (
    "Write an order id in the field above. The page of a trace shows links by their ids alone and no way back: here are their "
    "reasons, and what links to the order from elsewhere."
)


def dashboard(org: str) -> dict[str, Any]:
    """Give the dashboard as OpenObserve takes it, without the id that it gives."""
    return {
        "version": 8,
        "title": TITLE,
        "description": "Orders over RabbitMQ: outcomes, times, errors, queues, one order, and what was lost of the telemetry.",
        "tabs": [
            _tab(TAB, "Orders", _WHAT_TO_LOOK_AT, ORDERS, (SLOWEST, FAILED), org),
            _tab(QUEUES_TAB, "Queues", _QUEUES_NOTE, QUEUES, (), org),
            _tab(ORDER_TAB, "One order", _ORDER_NOTE, (), (ORDER_SPANS, ORDER_LINKED, ORDER_LOGS), org),
        ],
        "variables": {
            "list": [
                {
                    "type": "textbox",
                    "name": ORDER_VARIABLE,
                    "label": "Order id",
                    "value": "",
                    "options": [],
                    "escapeSingleQuotes": True,
                    "scope": "tabs",
                    "tabs": [ORDER_TAB],
                }
            ]
        },
        "defaultDatetimeDuration": {"type": "relative", "relativeTimePeriod": PERIOD},
    }


def address(url: str, org: str, identifier: str, tab: str = TAB, order_id: str | None = None) -> str:
    """Give the address of the dashboard with its refresh on, or of what it says about one order."""
    query = {"org_identifier": org, "dashboard": identifier, "folder": FOLDER, "tab": tab, "refresh": REFRESH}
    query["period"] = PERIOD if order_id is None else "1d"
    if order_id is not None:
        query[f"var-{ORDER_VARIABLE}"] = order_id
    return f"{url.rstrip('/')}/web/dashboards/view?{urlencode(query)}"


def _tab(id_: str, name: str, note: str, charts: Sequence[Panel], tables: Sequence[Table], org: str) -> dict[str, Any]:
    rows_of_charts = (len(charts) + 1) // 2
    placed = chain(
        [_note(f"{id_}-note", note)],
        (
            _chart(panel, _layout(place + 2, place % 2, _NOTE_HEIGHT + place // 2 * _ROW_HEIGHT, _GRID_COLUMNS // 2))
            for place, panel in enumerate(charts)
        ),
        (
            _table(table, org, _layout(len(charts) + place + 2, 0, _NOTE_HEIGHT + row * _ROW_HEIGHT, _GRID_COLUMNS))
            for place, (table, row) in enumerate(zip(tables, range(rows_of_charts, 99), strict=False))
        ),
    )
    return {"tabId": id_, "name": name, "panels": list(placed)}


def _note(id_: str, text: str) -> dict[str, Any]:
    layout = {"x": 0, "y": 0, "w": _GRID_COLUMNS, "h": _NOTE_HEIGHT, "i": 1}
    return {
        **_panel(id_, "markdown", "What to look at", "", {"show_legends": False}, layout),
        "queryType": "sql",
        "queries": [_query("", "logs", "", "")],
        "markdownContent": text,
    }


def _chart(panel: Panel, layout: dict[str, int]) -> dict[str, Any]:
    unit = {"unit": panel.unit} if panel.unit in _KNOWN_UNITS else {"unit": "custom", "unit_custom": panel.unit}
    colours = [{"type": "value", "value": name, "color": colour} for name, colour in panel.colours.items()]
    config = {
        "show_legends": True,
        "connect_nulls": True,
        **unit,
        "color": {"mode": "palette-classic", "colorBySeries": colours},
    }
    return {
        **_panel(panel.id, "line", panel.title, panel.description, config, layout),
        "queryType": "promql",
        "queries": [_query(promql, "metrics", "", legend) for legend, promql in panel.queries.items()],
    }


def _table(table: Table, org: str, layout: dict[str, int]) -> dict[str, Any]:
    query = _query(table.sql, table.stream_type, STREAM, "")
    query["fields"]["x"] = [{"label": name, "alias": name, "column": name, "color": None} for name in table.columns]
    to_trace = (
        f'/web/traces/trace-details?stream={STREAM}&trace_id=${{row.field["trace_id"]}}'
        f"&from=${{start_time}}&to=${{end_time}}&org_identifier={org}"
    )
    drilldown = {"name": "Its trace", "type": "byUrl", "targetBlank": True, "data": {"url": to_trace}}
    config = {"show_legends": False, "wrap_table_cells": True, "drilldown": [drilldown]}
    return {
        **_panel(table.id, "table", table.title, table.description, config, layout),
        "queryType": "sql",
        "queries": [query],
    }


def _panel(
    id_: str, kind: str, title: str, description: str, config: dict[str, Any], layout: dict[str, int]
) -> dict[str, Any]:
    return {"id": id_, "type": kind, "title": title, "description": description, "config": config, "layout": layout}


def _query(text: str, stream_type: str, stream: str, legend: str) -> dict[str, Any]:
    return {
        "query": text,
        # Without it the text is thrown away and made anew from the fields.
        "customQuery": True,
        "fields": {
            "stream": stream,
            "stream_type": stream_type,
            "x": [],
            "y": [],
            "z": [],
            "filter": {"filterType": "group", "logicalOperator": "AND", "conditions": []},
        },
        "config": {"promql_legend": legend},
    }


def _layout(number: int, column: int, top: int, width: int) -> dict[str, int]:
    """Give the place on the grid, numbered within the tab from 1 as it wants it."""
    return {"x": column * _GRID_COLUMNS // 2, "y": top, "w": width, "h": _ROW_HEIGHT, "i": number}
