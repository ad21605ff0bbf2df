"""Under what conditions a benchmark ran: without them a figure says nothing."""

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.load import generator


def conditions(broker: str) -> str:
    """Tell date, processor, load, versions, and what generates the load."""
    versions = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {broker}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores of {_processor()}, {versions}. "
        f"Load by {generator()}. Load average at the start: {load_average()}.\n"
    )


def load_average() -> str:
    """Give the processes that wanted a core, over 1, 5 and 15 minutes."""
    return ", ".join(f"{each:.1f}" for each in os.getloadavg())


def _processor() -> str:
    """Name the processor, as the kernel does."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "an unknown kind"
