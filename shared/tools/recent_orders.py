"""The newest orders that left a trace in the embedded receiver: how many a second, and what became of them."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from shared.contract.errors import first_line
from shared.tools.proxies import trusts_environment

READ_SECONDS = 5.0
EXPORT_SECONDS = 2.0
"""How long a service may keep a span back before it exports it: what is younger may be incomplete."""
RATE_SECONDS = 10.0
"""The time over which the rate of new orders is taken."""
NEWEST = 1000
"""Traces that are looked at; group commits are among them."""


class OrdersUnreadable(Exception):
    """There is no list of the newest orders; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class SeenOrder:
    """An order as its trace tells it; `placed_at` in seconds since the epoch, `ms` from the first span to the last."""

    order_id: str
    status: str
    ms: float
    placed_at: float
    trace_id: str


@dataclass(frozen=True, slots=True)
class OrdersState:
    """The newest orders, the very newest first."""

    per_second: float | None
    """New orders a second, up to `EXPORT_SECONDS` ago; None where the traces do not reach back far enough."""
    outcomes: Mapping[str, int]
    """Of how many of `newest` became what."""
    newest: list[SeenOrder]
    source: str


def read_orders(url: str, org: str, headers: Mapping[str, str]) -> OrdersState:
    """Ask the embedded receiver for the newest traces; raises OrdersUnreadable."""
    try:
        found = httpx.get(
            f"{url.rstrip('/')}/api/{org}/traces",
            params={"limit": NEWEST},
            headers=dict(headers),
            timeout=READ_SECONDS,
            trust_env=trusts_environment(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
        raise OrdersUnreadable(f"there is no receiver for traces at {url} ({first_line(error)})") from error
    if found.status_code == 401:
        raise OrdersUnreadable(
            f"the server at {url} refuses the user or password (OPENOBSERVE_USER, OPENOBSERVE_PASSWORD)"
        )
    try:
        traces = found.raise_for_status().json()["traces"]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise OrdersUnreadable(
            f"the server at {url} is not the embedded receiver: it has no list of the newest orders"
        ) from error
    return orders_state(traces, time.time(), url)


def orders_state(traces: list[dict[str, Any]], now: float, source: str) -> OrdersState:
    """Make the state from the receiver's list of its newest traces, newest first."""
    newest = [
        SeenOrder(
            order_id=trace["order_id"],
            status=trace["order_status"] or (f"HTTP {trace['http_status']}" if trace["http_status"] else "unknown"),
            ms=trace["duration_ms"],
            placed_at=trace["start_ns"] / 1e9,
            trace_id=trace["trace_id"],
        )
        for trace in traces
        if trace["order_id"] is not None
    ]
    begin, end = now - EXPORT_SECONDS - RATE_SECONDS, now - EXPORT_SECONDS
    # A full list may have left older traces out: it must reach back beyond the time that the rate is taken over.
    reaches_back = len(traces) < NEWEST or traces[-1]["start_ns"] / 1e9 < begin
    recent = sum(begin <= order.placed_at < end for order in newest)
    return OrdersState(
        per_second=recent / RATE_SECONDS if reaches_back else None,
        outcomes=dict(Counter(order.status for order in newest).most_common()),
        newest=newest,
        source=source,
    )
