"""Load by `wrk`, a native generator: it takes far less CPU from the system that it measures than one in Python."""

import json
import math
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load_result import Result

_SCRIPT = Path(__file__).with_name("wrk.lua")
_LAST_ANSWERS, _LAST_ANSWERS_OF_SEVERAL = 60, 2
"""Seconds that the last orders have to be answered in; who has no answer then has failed. It ends early only with one URL."""


def is_installed() -> bool:
    """Tell whether there is a `wrk` to load with."""
    return shutil.which("wrk") is not None


def version() -> str:
    """Give its name and version, as it prints them."""
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)  # it ends with 1 on this
    return " ".join((shown.stdout + shown.stderr).split()[:2])


def run(urls: Sequence[str], connections: int, seconds: float, rate: float | None) -> Result:
    """Load `urls` at once for some seconds over some connections, at most at `rate` orders a second over all of them."""
    addresses = [urlsplit(url).netloc for url in urls][:connections]
    command = ["wrk", "--threads", str(len(addresses)), "--connections", str(connections)]
    most = math.ceil(seconds) + (_LAST_ANSWERS if len(addresses) == 1 else _LAST_ANSWERS_OF_SEVERAL)
    command += ["--duration", f"{most}s", "--timeout", "60s", "--script", str(_SCRIPT)]
    command += [urls[0], "--", f"B{uuid.uuid4().hex[:12]}", str(seconds), str(rate or 0), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stderr.splitlines()[-1])
    return Result(**found)
