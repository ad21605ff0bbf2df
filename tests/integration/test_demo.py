"""The demonstration: it shows what it promises, beside itself too, and leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.environment import plain_environment
from tests.processes import running_processes
from tests.waiting import eventually

ORDERS = [str(Path(sys.executable).with_name("orders"))]


def _run(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    directory.mkdir(exist_ok=True)
    return subprocess.run(
        [*ORDERS, *words],
        env=plain_environment(TMPDIR=str(directory), COLUMNS="100") | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_two_demonstrations_side_by_side_both_show_every_outcome_and_a_whole_trace(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda name: _run(tmp_path / name, "demo"), ["a", "b"]))

    for done in both:
        assert done.returncode == 0, done.stdout + done.stderr
        for number in range(1, 11):
            assert re.search(rf"order_id=ORDER{number}\s+200\s+success", done.stdout)
        assert re.search(r"ORDER11\D.*201\s+out_of_stock", done.stdout)
        assert re.search(r"again\s+200\s+success", done.stdout)
        assert re.search(r"ORDER12, worker paused\s+202\s+pending", done.stdout)
        assert re.search(r"ORDER12, worker back\s+200\s+success", done.stdout)
        for part in ("creation_context", "reply", "duplicate_of", "late_reply_to"):
            assert f"↪ {part} →" in done.stdout
        assert done.stdout.count("commit reservations") >= 2, (
            "below the check that it served, or linked from a trace of its own"
        )
    assert not list(tmp_path.glob("*/*")), "files are left"
    assert not _processes_that_mention(str(tmp_path)), "processes are left"


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (["show", "X"], {"ORDER_API_URL": "http://127.0.0.1:1"}, "There is no order API at http://127.0.0.1:1"),
        (["submit", "widget=many"], {}, "is not SKU or SKU=QUANTITY"),
        (["demo"], {"AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}, "No broker answers at 127.0.0.1:1 (AMQP_URL)."),
    ],
)
def test_a_failure_is_one_sentence_and_a_non_zero_end(
    tmp_path: Path, words: list[str], environment: dict[str, str], expected: str
) -> None:
    done = _run(tmp_path / "d", *words, **environment)

    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def _processes_that_mention(text: str) -> list[str]:
    return [process.command for process in running_processes() if text in process.command]


FOREIGN = {
    "OTEL_SDK_DISABLED": "true",
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_PROPAGATORS": "none",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "-1",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "0",
    "OTEL_RESOURCE_ATTRIBUTES": "service.name=another-tool",
    "ORDER_API_KEY": "schlüssel",
    "ORDER_API_PORT": "tcp://10.96.0.12:8000",
    "INVENTORY_WORKER_PORT": "tcp://10.96.0.13:8001",
    "INITIAL_STOCK": '{"gadget": 0}',
    "DEFAULT_SKU": "gizmo",
    "LOG_LEVEL": "critical",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "ALL_PROXY": "http://127.0.0.1:1",
    "REQUESTS_CA_BUNDLE": "/nowhere.pem",
}
"""Variables that belong to another tool, to a cluster, or to services that run elsewhere."""


def test_in_an_environment_of_others_the_demonstration_shows_what_it_shows_in_a_clean_one(tmp_path: Path) -> None:
    done = _run(tmp_path / "a", "demo", **FOREIGN)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"order_id=ORDER\d+\s+200\s+success", done.stdout)) == 10
    assert re.search(r"ORDER11\D.*201\s+out_of_stock", done.stdout)
    for part in ("creation_context", "reply", "duplicate_of", "late_reply_to"):
        assert f"↪ {part} →" in done.stdout
    said = " ".join(done.stdout.split())
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"):
        assert name in said.partition("passed over, so that there are traces to show here: ")[2]


@contextmanager
def _up(directory: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `orders up` until the end of the context, and show that nothing is left."""
    directory.mkdir()
    with log.open("w") as output:
        up = subprocess.Popen(
            [*ORDERS, "up"], env=plain_environment(TMPDIR=str(directory)), stdout=output, stderr=output
        )
    try:
        eventually(lambda: "Ctrl-C ends it all." in log.read_text(), within=120, what="everything up")
        yield up
    finally:
        up.kill()
        up.wait()
    assert not list(directory.iterdir()), "files are left"
    assert not _processes_that_mention(str(directory)), "processes are left"


def test_up_that_is_told_to_end_leaves_neither_files_nor_processes(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with _up(tmp_path / "files", log) as up:
        up.terminate()

        assert up.wait(60) == 128 + signal.SIGTERM, log.read_text()


def test_up_whose_worker_ends_by_itself_ends_too_and_says_what_the_worker_said_last(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with _up(tmp_path / "files", log) as up:
        children = [process for process in running_processes() if process.parent == up.pid]
        (worker,) = (process.pid for process in children if "inventory_worker" in process.command)
        os.kill(worker, signal.SIGTERM)

        assert up.wait(60) == 1
    said = " ".join(log.read_text().split())
    assert "The inventory-worker has ended by itself: " in said
    assert "/traced-orders-" not in said.partition("has ended by itself")[2], "a log that is gone by now"
