"""Ctrl-C for work that has to end at a good place."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopping_on_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Give what tells whether Ctrl-C was pressed, inside a running loop; the second time it ends at once, as usual."""
    loop, is_stopped = asyncio.get_running_loop(), False

    def stop() -> None:
        nonlocal is_stopped
        is_stopped = True
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield lambda: is_stopped
    finally:
        loop.remove_signal_handler(signal.SIGINT)
