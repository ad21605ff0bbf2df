"""What the charts of the dashboard ask, as data: PromQL by the legend of its series, where `{label}` stands for a label's value.

Where the names come from: OpenObserve's metric ingestion keeps a metric's name with `_` for whatever is no letter, digit or
underscore, adds neither unit nor `_total`, and stores a histogram as `_bucket` (with `le`), `_sum` and `_count`; attributes
become labels with their keys folded. Panels over metrics must be PromQL: its pages do not draw SQL over metric streams. The
services report what they know of at 0 from their start on, so that the first event of a kind shows as one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

GREEN, YELLOW, RED, BLUE, PURPLE, GREY = "#2e8b57", "#d99a1c", "#c0392b", "#2f6fd0", "#8e44ad", "#7f8c8d"
QUANTILES = {"p50": BLUE, "p95": YELLOW, "p99": RED}
"""Series by their colour: OpenObserve's own comes from a hash of the name, and p95 and p99 got the same one."""
_STATUSES = {"success": GREEN, "out_of_stock": YELLOW, "error": RED, "pending": GREY}
QUEUE = "messaging_destination_name"


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart."""

    id: str
    title: str
    description: str
    queries: Mapping[str, str]
    unit: str
    """One that OpenObserve knows, or any word."""
    colours: Mapping[str, str] = field(default_factory=dict)


def _quantiles(histogram: str, matching: str = "") -> dict[str, str]:
    selected = f"{histogram}_bucket{{{matching}}}" if matching else f"{histogram}_bucket"
    return {
        f"p{percent}": f"histogram_quantile({percent / 100}, sum by (le) (increase({selected}[5m])))"
        for percent in (50, 95, 99)
    }


def _timed(id_: str, title: str, description: str, histogram: str, matching: str = "") -> Panel:
    return Panel(id_, f"{title} (s)", description, _quantiles(histogram, matching), "seconds", QUANTILES)


ORDERS = (
    Panel(
        "orders",
        "Orders by outcome (orders/s)",
        "Orders a second that got their outcome.",
        {"{status}": "sum by (status) (rate(orders_decided[1m]))"},
        "orders/s",
        _STATUSES,
    ),
    Panel(
        "answers",
        "Answers to POST /orders (answers/s)",
        "Answers a second: new or repeated, and how the order stood; pending ones were answered 202.",
        {"{outcome} {status}": "sum by (outcome, status) (rate(orders_placed[1m]))"},
        "answers/s",
        {
            f"{outcome} {status}": colour
            for outcome, colours in (
                ("new", _STATUSES),
                ("repeated", dict(zip(_STATUSES, ("#7fc8a0", "#ecc777", "#e08b81", "#b5bcbd"), strict=True))),
            )
            for status, colour in colours.items()
        },
    ),
    _timed(
        "end-to-end",
        "End to end: from accepted to decided",
        "How long orders took, those that were answered 202 too, whatever they waited for.",
        "orders_end_to_end",
    ),
    _timed(
        "requests",
        "Request",
        "How long POST /orders took, with the wait for the reply in it.",
        "http_server_request_duration",
        'http_request_method="POST"',
    ),
    _timed(
        "queue-wait",
        "Queue wait",
        "From the publish of a check to its delivery to a worker.",
        "orders_queue_wait",
        f'{QUEUE}="inventory.check"',
    ),
    _timed(
        "processing",
        "Processing",
        "From the delivery of a check to a worker until it is settled.",
        "messaging_process_duration",
        f'{QUEUE}="orders:inventory.check"',
    ),
    Panel(
        "errors",
        "Errors by reason (in 5 min)",
        "Orders, and checks at the workers, that went wrong in the last five minutes.",
        {
            "order: {reason}": 'sum by (reason) (increase(orders_decided{status="error"}[5m]))',
            "check: {reason}": 'sum by (reason) (increase(orders_settled{outcome!="ack"}[5m]))',
        },
        "errors",
        {"order: unknown_sku": YELLOW, "order: dead_letter": RED, "check: write_failed": PURPLE},
    ),
    Panel(
        "retries",
        "Retries and dead letters (in 5 min)",
        "Checks settled otherwise than by ack, redeliveries, and checks that the relay repeated, in the last five minutes.",
        {
            "{outcome}": 'sum by (outcome) (increase(orders_settled{outcome!="ack"}[5m]))',
            "redelivered": "sum(increase(orders_redelivered[5m]))",
            "asked again": "sum(increase(orders_asked_again[5m]))",
        },
        "checks",
        {"retry": YELLOW, "dead_letter": RED, "redelivered": BLUE, "asked again": PURPLE},
    ),
    Panel(
        "lost-spans",
        "Dropped spans (in 5 min)",
        "Spans that never got here, in the last five minutes: what the traces do not show.",
        {"{service_name}: {reason}": "sum by (service_name, reason) (increase(orders_spans_lost[5m]))"},
        "spans",
        {"order-api: queue_full": BLUE, "order-api: buffer_full": PURPLE, "inventory-worker: buffer_full": YELLOW},
    ),
)
