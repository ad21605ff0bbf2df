"""Finds a Chromium for the browser tests, and on Debian installs one where there is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PLACES = (
    "/usr/lib/chromium/chromium",
    "/snap/bin/chromium",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# No sandbox: it does not start as root. The rest keeps the browser from talking to anybody but the page.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str:
    """The executable. Fails the test with one sentence where there is none and none can be installed."""
    found = _find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command, check=False, capture_output=True, timeout=600, env=environment)
        found = _find()
    if found is None:
        pytest.fail("The browser tests need Chromium or Chrome: install it (on Debian: apt-get install chromium).")
    return found


def _find() -> str | None:
    candidates = [*filter(None, map(shutil.which, _NAMES)), *_PLACES]
    return next((place for place in candidates if Path(place).exists()), None)
