"""Puts load on the order API: many orders at once, bounded in number and in time, each one measured."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx

from shared.contract.errors import first_line
from shared.tools.order_client import ApiError, check_port, key_headers
from shared.tools.proxies import trusts_environment

REQUEST_SECONDS = 30.0
"""Longest wait for one answer; whatever takes longer has failed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much load: it ends after `count` orders or `seconds`, whichever comes first."""

    items: Mapping[str, int]
    count: int
    seconds: float
    concurrency: int
    """Requests that are open at a time, at most."""
    rate: float | None = None
    """Orders a second; None places the next order as soon as a request is free."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One order: what came back and after how long."""

    order_id: str
    http_status: int | None
    """None where there was no answer."""
    outcome: str
    """The status of the order, or for a failure what went wrong."""
    failed: bool
    """Whether the request went wrong; an order that is out of stock has not."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """What became of a plan."""

    plan: Plan
    samples: Sequence[Sample]
    seconds: float
    """From the first request to the last answer."""

    @property
    def failures(self) -> int:
        """How many requests failed."""
        return sum(sample.failed for sample in self.samples)

    @property
    def per_second(self) -> float:
        """Orders a second that were answered without a failure."""
        return (len(self.samples) - self.failures) / self.seconds if self.seconds else 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Give the smallest value that `percent` of all values do not exceed; `ordered` is sorted and not empty."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


async def put_load(
    url: str, api_key: str | None, plan: Plan, on_sample: Callable[[Sample], None] = lambda _: None
) -> Load:
    """Carry out a plan; raises ApiError when there is no order API at `url` to begin with.

    With a rate, an order's time counts from when it was due rather than from when a request was free for it: else a system
    that falls behind would look fast by being asked less.
    """
    headers = key_headers(api_key)
    limits = httpx.Limits(max_connections=plan.concurrency, max_keepalive_connections=plan.concurrency)
    try:
        check_port(url)
        http = httpx.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=REQUEST_SECONDS, trust_env=trusts_environment(url)
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:  # of a proxy in the environment, too
        raise ApiError(f"The order API cannot be reached at {url}: {error}.") from error
    async with http as client:
        try:
            await client.get("/health")
        except httpx.HTTPError as error:
            raise ApiError(f"There is no order API at {url} ({first_line(error)}); `make up` starts one.") from error
        samples: list[Sample] = []
        started = time.perf_counter()
        turns = _turns(plan, started)
        prefix = f"LOAD-{secrets.token_hex(3)}"

        async def place_orders() -> None:
            # The workers share one iterator: each takes the next turn when it is free.
            for number, due in turns:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sample = await _place(client, f"{prefix}-{number}", plan.items, due if plan.rate else None)
                samples.append(sample)
                on_sample(sample)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(plan.concurrency, plan.count)):
                group.create_task(place_orders())
        return Load(plan, samples, time.perf_counter() - started)


def _turns(plan: Plan, started: float) -> Iterator[tuple[int, float]]:
    """Number the orders and say when each is due, until the plan's count or time is used up."""
    for number in range(1, plan.count + 1):
        now = time.perf_counter()
        due = now if plan.rate is None else started + (number - 1) / plan.rate
        if number > 1 and max(due, now) >= started + plan.seconds:
            return
        yield number, due


async def _place(client: httpx.AsyncClient, order_id: str, items: Mapping[str, int], due: float | None) -> Sample:
    body = {"order_id": order_id, "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]}
    began = time.perf_counter() if due is None else due
    try:
        response = await client.post("/orders", json=body)
    except httpx.HTTPError as error:
        return Sample(order_id, None, type(error).__name__, True, time.perf_counter() - began)
    taken = time.perf_counter() - began
    if response.is_error:
        return Sample(order_id, response.status_code, response.reason_phrase, True, taken)
    try:
        return Sample(order_id, response.status_code, str(response.json()["status"]), False, taken)
    except (ValueError, KeyError, TypeError):
        return Sample(order_id, response.status_code, "not an order", True, taken)
