"""The benchmarks run: a second of load over one connection, as a person starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import VirtualHost

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (("--only", "floor", "RPC"), ("the floor: every promise and span", "patterns.RPC, traced")),
        (("--against", str(ROOT)), ("orders/s", "involuntary context switches an order")),
    ],
    ids=["beside others", "beside another checkout"],
)
def test_a_second_of_load_over_one_connection_is_measured(
    virtual_host: VirtualHost, arguments: tuple[str, ...], rows: tuple[str, ...]
) -> None:
    brief = ("--connections", "1", "--seconds", "1", "--repeats", "1")

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, *brief],
        cwd=ROOT,
        env={**os.environ, "AMQP_URL": virtual_host.amqp_url},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    table = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| 1 ")]
    assert [row for row in rows if not any(line[1].startswith(row) for line in table)] == []
    assert "Load by " in done.stdout
    assert "nan" not in done.stdout


def test_a_directory_that_is_no_checkout_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--against", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "is no checkout of this project" in done.stderr
