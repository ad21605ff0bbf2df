"""The dashboard as data: what each panel asks, and the form that OpenObserve stores it in.

Where the form comes from: the dashboard model of OpenObserve's own sources, version 8, and the JSON schema that its server
checks every save against (from v0.91 on). A tab needs its id and name; a panel id, type, title, description, config with
`show_legends`, and a layout on a grid of 192 columns; a query `customQuery`, `fields` with stream, x, y and a filter group,
and `config.promql_legend`, for SQL too. Keys of panels and queries are in camel case, those of `config` and `fields` are not.

Where the names come from: its metric ingestion keeps a metric's name with `_` for whatever is no letter, digit or underscore,
adds neither unit nor `_total`, and stores a histogram as `_bucket` (with `le`), `_sum` and `_count`; attributes become labels
with their keys folded. Panels over metrics must be PromQL: its pages do not draw SQL over metric streams. A metric that nobody
has recorded yet leaves its panel empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.tools.openobserve.client import STREAM

TITLE = "Traced Orders"
TAB = "default"
_GRID_COLUMNS = 192
_ROW_HEIGHT = 18


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: PromQL by the legend of its series, where `{label}` stands for a label's value."""

    id: str
    title: str
    description: str
    queries: Mapping[str, str]
    unit: str | None = None


def _quantiles(histogram: str, matching: str = "") -> dict[str, str]:
    selected = f"{histogram}_bucket{{{matching}}}" if matching else f"{histogram}_bucket"
    return {
        f"p{percent}": f"histogram_quantile({percent / 100}, sum by (le) (rate({selected}[5m])))"
        for percent in (50, 95, 99)
    }


PANELS = (
    Panel(
        "orders",
        "Orders by outcome",
        "Orders a second that got their outcome.",
        {"{status}": "sum by (status) (rate(orders_decided[1m]))"},
    ),
    Panel(
        "answers",
        "Answers to POST /orders",
        "Answers a second: new or repeated, and how the order stood; pending ones were answered 202.",
        {"{outcome} {status}": "sum by (outcome, status) (rate(orders_placed[1m]))"},
    ),
    Panel(
        "requests",
        "Request",
        "How long POST /orders took, with the wait for the reply in it.",
        _quantiles("http_server_request_duration", 'http_request_method="POST"'),
        "seconds",
    ),
    Panel(
        "queue-wait",
        "Queue wait",
        "From the publish of a check to its delivery to a worker.",
        _quantiles("orders_queue_wait", 'messaging_destination_name="inventory.check"'),
        "seconds",
    ),
    Panel(
        "processing",
        "Processing",
        "From the delivery of a check to a worker until it is settled.",
        _quantiles("messaging_process_duration", 'messaging_destination_name="orders:inventory.check"'),
        "seconds",
    ),
    Panel(
        "errors",
        "Errors by reason",
        "Orders, and checks at the workers, that went wrong in the last five minutes.",
        {
            "order: {reason}": 'sum by (reason) (increase(orders_decided{status="error"}[5m]))',
            "check: {reason}": 'sum by (reason) (increase(orders_settled{outcome!="ack"}[5m]))',
        },
    ),
    Panel(
        "retries",
        "Retries and dead letters",
        "Checks settled otherwise than by ack, redeliveries, and checks that the relay repeated, in the last five minutes.",
        {
            "{outcome}": 'sum by (outcome) (increase(orders_settled{outcome!="ack"}[5m]))',
            "redelivered": "sum(increase(orders_redelivered[5m]))",
            "asked again": "sum(increase(orders_asked_again[5m]))",
        },
    ),
    Panel(
        "lost-spans",
        "Dropped spans",
        "Spans that never got here, in the last five minutes: what the traces do not show.",
        {"{service_name}: {reason}": "sum by (service_name, reason) (increase(orders_spans_lost[5m]))"},
    ),
)

FAILED_SPANS = (
    f'SELECT _timestamp, service_name, operation_name, trace_id FROM "{STREAM}" '  # noqa: S608
    "WHERE span_status = 'ERROR' ORDER BY _timestamp DESC LIMIT 100"
)


def dashboard() -> dict[str, Any]:
    """The dashboard as OpenObserve takes it, without the id that it gives."""
    charts = [_chart(panel, place) for place, panel in enumerate(PANELS)]
    return {
        "version": 8,
        "title": TITLE,
        "description": "Orders over RabbitMQ: outcomes, times, errors, and what the telemetry itself has lost.",
        "tabs": [{"tabId": TAB, "name": "Orders", "panels": [*charts, _failed_spans(len(charts))]}],
        "defaultDatetimeDuration": {"type": "relative", "relativeTimePeriod": "15m"},
    }


def _chart(panel: Panel, place: int) -> dict[str, Any]:
    unit = {} if panel.unit is None else {"unit": panel.unit}
    return {
        "id": panel.id,
        "type": "line",
        "title": panel.title,
        "description": panel.description,
        "config": {"show_legends": True, "connect_nulls": True, **unit},
        "queryType": "promql",
        "queries": [_query(promql, "metrics", "", legend) for legend, promql in panel.queries.items()],
        "layout": _layout(place, _GRID_COLUMNS // 2),
    }


def _failed_spans(place: int) -> dict[str, Any]:
    columns = ("_timestamp", "service_name", "operation_name", "trace_id")
    query = _query(FAILED_SPANS, "traces", STREAM, "")
    query["fields"]["x"] = [{"label": name, "alias": name, "column": name, "color": None} for name in columns]
    return {
        "id": "failed-spans",
        "type": "table",
        "title": "Failed spans, newest first",
        "description": "The trace ids to look for under Traces.",
        "config": {"show_legends": False},
        "queryType": "sql",
        "queries": [query],
        "layout": _layout(place, _GRID_COLUMNS),
    }


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


def _layout(place: int, width: int) -> dict[str, int]:
    """The place in reading order, two panels to a row, numbered from 1 as the grid wants it."""
    row, column = divmod(place, 2)
    return {"x": column * _GRID_COLUMNS // 2, "y": row * _ROW_HEIGHT, "w": width, "h": _ROW_HEIGHT, "i": place + 1}
