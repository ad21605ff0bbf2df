"""What waits goes by the clock of the event loop: on a Mac that has slept, Python's monotonic clock and uvloop's differ."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAITING = ["order_api", "inventory_worker", "shared/rabbit", "shared/storage", "shared/service"]


@pytest.mark.parametrize("package", WAITING)
def test_no_deadline_of_a_service_mixes_two_clocks(package: str) -> None:
    # Telemetry ends after the event loop, in threads, so its own deadline is the exception.
    modules = [path for path in (ROOT / package).rglob("*.py") if path.name != "providers.py"]

    assert modules
    assert [path.name for path in modules if "time.monotonic" in path.read_text()] == []
