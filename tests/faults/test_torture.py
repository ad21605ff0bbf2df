"""The torture run, short and from a fixed seed; `python -m tests.torture` is the long one."""

from pathlib import Path

import pytest

from tests.torture.chaos import Kind
from tests.torture.run import planned, torture

SEED, SECONDS = 3, 20.0


def test_the_same_seed_plans_the_same_faults() -> None:
    assert planned(SEED, 180.0) == planned(SEED, 180.0)
    assert planned(SEED, 180.0) != planned(SEED + 1, 180.0)
    assert {fault.kind for fault in planned(SEED, 180.0)} == set(Kind)


@pytest.mark.timeout(300)
async def test_every_promise_is_kept_while_everything_fails(tmp_path: Path) -> None:
    """Two order APIs, two workers and the broker are killed, stopped, cut off and stalled at random, under load.

    Customers order meanwhile, click twice, give up early and try again. When everything is back, no order that was accepted
    may be lost or decided twice, no outcome may have changed, the stock must be what was sold, no message may lie about, and
    every trace must be whole but for what a killed process took with it.
    """
    result = await torture(seconds=SECONDS, rate=10.0, seed=SEED, directory=tmp_path)

    assert [(check.name, check.violations[:5]) for check in result.checks if not check.is_ok] == []
    assert sum(result.faults.values()) == len(planned(SEED, SECONDS))
    assert result.outcomes["success"] > 0
