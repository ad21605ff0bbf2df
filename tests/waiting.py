"""Waiting for what must become true, with a deadline instead of a sleep for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(probe: Callable[[], Found | None], *, within: float = 30.0, what: str = "the condition") -> Found:
    """Return the first true value that `probe` gives; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within:.0f} s; last seen: {found!r}")
        time.sleep(0.02)
