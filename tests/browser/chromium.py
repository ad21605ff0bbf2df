"""Finds a Chromium for the browser tests, and on Debian installs one where there is none."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from shared.tools.local.rabbitmq_debian import can_install, install
from shared.tools.local.rabbitmq_server import BrokerError

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
    if found is None and can_install():
        with suppress(BrokerError):
            install("chromium")
        found = _find()
    if found is None:
        pytest.fail("The browser tests need Chromium or Chrome: install it (on Debian: apt-get install chromium).")
    return found


def _find() -> str | None:
    candidates = [*filter(None, map(shutil.which, _NAMES)), *_PLACES]
    return next((place for place in candidates if Path(place).exists()), None)
