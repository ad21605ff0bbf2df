"""Waiting for what must become true, with a deadline instead of a sleep for luck."""

import asyncio
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


async def eventually_async(probe: Callable[[], bool], *, within: float = 30.0, what: str = "the condition") -> None:
    """The same within an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, f"{what} did not come true within {within:.0f} s"
        await asyncio.sleep(0.02)
