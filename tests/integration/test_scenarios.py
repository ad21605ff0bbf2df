"""The scenarios, all of them once: each fault is real, and each trace shows what it is there for."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.tools.local.scenarios import SCENARIOS
from tests.environment import plain_environment
from tests.processes import running_processes

pytestmark = pytest.mark.timeout(300)

EXPECTED = {
    "Success": ["→ 201 success", "↪ reply → ", "delivery.attempt 1, delivery.redelivered false, delivery.outcome ack"],
    "Out of stock": ["→ 201 out_of_stock", "inventory.in_stock false, order.reason insufficient_stock: gadget"],
    "Duplicate": ["→ 200 success", "↪ duplicate_of → trace "],
    "Late reply": ["→ 202 pending", "↪ late_reply_to → POST /orders", "delivery.reply late, order.status success"],
    "Redelivery after a kill": ["delivery.attempt 2, delivery.redelivered true, delivery.outcome ack"],
    "Database away": [
        "database is locked",
        "↪ reply → ",
        "delivery.attempt 1, delivery.redelivered false, delivery.outcome ack",
    ],
    "Retry of a check that fails while others succeed": [
        "POST /orders BESIDE: 1 x widget → 201 success",
        "this stock is not to be touched",
        "↪ previous_attempt → process orders:inventory.check",
        "delivery.attempt 1, delivery.outcome retry, error.type write_failed",
        "delivery.attempt 2, delivery.outcome ack",
    ],
    "Poison to dead letter, and its replay": [
        "send inventory.check.dead",
        "delivery.attempt 10, delivery.outcome dead_letter, error.type too_many_attempts",
        "replay inventory.check.dead",
        "↪ replay_of → process orders:inventory.check",
        "delivery.attempt 1, delivery.outcome ack, order.status success",
    ],
    "Broker away": [
        "→ 202 pending",
        "POST /orders, event 'ask deferred'",
        "error.type broker_unavailable",
        "delivery.reply late, order.status success",
    ],
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What each scenario prints, by its title, of one run that has ended well and left nothing behind."""
    directory = tmp_path_factory.mktemp("scenarios")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("orders")), "scenarios"],
        env=plain_environment(TMPDIR=str(directory), COLUMNS="120"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(directory.iterdir()), "files are left"
    assert not [process for process in running_processes() if str(directory) in process.command]
    parts = re.split(r"^\d\. (.+)$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_scenario_is_played_in_order(shown: Mapping[str, str]) -> None:
    assert list(shown) == [scenario.title for scenario in SCENARIOS] == list(EXPECTED)


@pytest.mark.parametrize("title", EXPECTED)
def test_a_scenario_says_what_to_look_at_and_its_trace_shows_it(shown: Mapping[str, str], title: str) -> None:
    part = shown[title]

    assert "Look at:" in part
    assert re.search(r"^trace [0-9a-f]{32}", part, re.MULTILINE)
    for expected in EXPECTED[title]:
        assert expected in part
