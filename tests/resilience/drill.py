"""One fault under load, from the capacity before it to the accounts after it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.resilience.accounts import Accounts, settle
from tests.resilience.load import Load, capacity_of
from tests.resilience.recovery import Row, keep
from tests.resilience.rig import Rig
from tests.system import stock_levels

MESSAGES_AN_ORDER = 1.05
"""Checks published for each stored order, retries apart, at most."""
LARGEST_SHARE, LARGEST_SHARE_BESIDE_OTHERS = 0.5, 0.25
"""Of the capacity: beside a heavier load there would be nothing left for a backlog to drain with. Small sizes run beside other
tests, which may take half of the machine after the capacity was measured."""
PROMISED = {"200 success", "201 success", "202 pending", "503"}
"""The answers that say what is certain: decided, accepted, or not stored."""
BEFORE_SECONDS = 2.0
SETTLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """How large a fault is: for how long (seconds), beside how many orders a second; and how the recovery is looked at."""

    seconds: float
    rate: float
    window: float = 3.0
    """Seconds; answers are in time again when 99 % of the orders placed in such a window hold their outcome."""
    capacity_seconds: float = 3.0
    share: float = LARGEST_SHARE_BESIDE_OTHERS

    def __str__(self) -> str:
        return f"for {self.seconds:.0f} s at {self.rate:.0f} a second"


def long(seconds: float, rate: float) -> Size:
    """A size as in production, looked at in windows of 10 s."""
    return Size(seconds, rate, window=10.0, capacity_seconds=8.0, share=LARGEST_SHARE)


def sizes(*found: Size) -> pytest.MarkDecorator:
    """Run a test at each of these sizes; those with a window of 10 s only where long tests are asked for."""
    marks = [pytest.mark.long, pytest.mark.timeout(1200)]
    return pytest.mark.parametrize(
        "size", [pytest.param(each, id=str(each), marks=marks if each.window >= 10 else []) for each in found]
    )


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of a drill."""

    row: Row
    accounts: Accounts
    stock_taken: int
    codes: dict[str, int]
    copies: dict[str, int]
    """The orders whose check was published more than once, retries apart."""

    @property
    def broken(self) -> dict[str, object]:
        """Give the promises about orders that were broken."""
        broken: dict[str, object] = dict(self.accounts.broken)
        sold = self.accounts.statuses.get("success", 0)
        if self.stock_taken != sold:
            broken["stock taken other than once for each order"] = f"{self.stock_taken} for {sold} orders"
        return broken

    def assert_in_time(self, slack: float) -> None:
        """Fail unless answers were in time again as soon as the capacity allows, and `slack` seconds."""
        assert self.row.in_time_after is not None, f"answers were never in time again: {self.codes}"
        assert self.row.in_time_after <= self.row.allowed + slack, f"a backlog drains too slowly: {self.codes}"


def drill(rig: Rig, name: str, size: Size, fault: Callable[[], object]) -> Findings:
    """Do `fault`, which returns when it is over, while orders come to the rig's APIs, and go on until answers are in time.

    The orders a second are those of the size, but no more than a share of what the system can do, which is measured first.
    """
    urls = [api.service.url for api in rig.apis]
    capacity = capacity_of(urls, size.capacity_seconds)
    load = Load(urls, min(size.rate, capacity * size.share))
    with rig.meter.running():
        before = stock_levels(rig.worker)["widget"]
        redelivered, connections = rig.meter.redelivered(), rig.meter.connections_made()
        with load.running():
            time.sleep(BEFORE_SECONDS)
            began = time.monotonic()
            fault()
            ended = time.monotonic()
            in_time_after = _in_time_again(load, ended, size, capacity, ended - began)
        accounts, settled_after = settle(rig.api.service.url, load.placed, SETTLE_SECONDS)
        published = rig.meter.published()
        own = {order.order_id: published[order.order_id] for order in load.placed}
        row = Row(
            f"{name} {size}",
            load.rate,
            capacity,
            ended - began,
            in_time_after,
            sum(own.values()) / max(1, accounts.stored),
            len(rig.meter.dead_letters()),
            rig.meter.retries(),
            max(0, rig.meter.redelivered() - redelivered),
            rig.meter.connections_made() - connections,
            settled_after,
        )
    keep(row)
    taken = before - stock_levels(rig.worker)["widget"]
    return Findings(row, accounts, taken, load.codes, {name: count for name, count in own.items() if count > 1})


def _in_time_again(load: Load, ended: float, size: Size, capacity: float, away: float) -> float | None:
    patience = 3 * away * load.rate / (capacity - load.rate) + 45.0
    while time.monotonic() < ended + patience:
        found = load.in_time_after(ended, size.window)
        if found is not None:
            return found
        time.sleep(0.25)
    return None
