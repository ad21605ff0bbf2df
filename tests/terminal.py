"""A command on a terminal, with a person before it who may press Ctrl-C."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence


def output_until(
    command: Sequence[str], is_enough: Callable[[str], bool], env: Mapping[str, str] | None = None, within: float = 120
) -> tuple[int, str]:
    """Run a command until it ends, or until enough is shown and Ctrl-C ends it; gives status and output."""
    ours, theirs = pty.openpty()
    environment = {**(os.environ if env is None else env), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    running = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, deadline = "", time.monotonic() + within
    try:
        while running.poll() is None and not is_enough(shown):
            assert time.monotonic() < deadline, shown
            shown += _read(ours)
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
        # What it still has to say must be read, or it could not end.
        while running.poll() is None:
            assert time.monotonic() < deadline, shown
            shown += _read(ours)
        while rest := _read(ours):
            shown += rest
        return running.returncode, shown
    finally:
        running.kill()
        running.wait()
        os.close(ours)


def _read(terminal: int) -> str:
    if not select.select([terminal], [], [], 0.1)[0]:
        return ""
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # how Linux says that the other end is closed
        return ""
