"""Commands for those who test and measure, as the documents have them: what they print, and one sentence for what is wrong."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.resilience.recovery import Row

ROOT = Path(__file__).parents[2]


def _run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_rows_of_recovery_become_a_table(tmp_path: Path) -> None:
    rows = [Row(fault, 100, 363, 60, 9.5, 1.0, 0, 0, 128, 2, None) for fault in ("worker paused", "broker away")]
    file = tmp_path / "recovery.jsonl"
    file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))

    done = _run("tests.resilience.recovery", str(file))

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["worker", "paused"], ["broker", "away"]]


def test_a_plan_of_torture_is_shown_and_nothing_is_done() -> None:
    done = _run("tests.torture", "--plan", "--seed", "1", "--seconds", "30")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("seed 1: 30 s, at most 30 orders a second, short profile\n")
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["tests.resilience.recovery"], 1, "Name a file that RECOVERY_TABLE"),
        (["tests.resilience.recovery", "nowhere.jsonl"], 1, "No such file"),
        (["tests.resilience.recovery", "README.md"], 1, "Name a file that RECOVERY_TABLE"),
        (["tests.torture", "--keep", "docs"], 2, "--keep makes a new directory"),
        (["tests.torture", "--profile", "middling"], 2, "Invalid value for '--profile'"),
        (["benchmarks", "--repeats", "0"], 2, "--repeats is 1 or more"),
        (["benchmarks", "--only", "nothing-of-that-name"], 2, "no system's name holds nothing-of-that-name"),
    ],
)
def test_what_is_wrong_is_one_sentence(words: list[str], status: int, sentence: str) -> None:
    done = _run(*words)

    assert done.returncode == status
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
