"""A service of the local stack as a process that can be paused, killed and started again."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from shared.tools.local.guarded_process import GuardedProcess
from shared.tools.local.probe import status_of
from shared.tools.tool_error import ToolError


class StackError(ToolError):
    """Something did not start; the message is one sentence for the person who started it."""


class ServiceProcess:
    """A module that runs in a process of its own, each time with the same environment, port, files and log."""

    def __init__(
        self, name: str, module: Sequence[str], *, url: str, ready: str, env: Mapping[str, str], log: Path
    ) -> None:
        self._name = name
        self._command = [sys.executable, "-m", *module]
        self.url = url
        self._ready = ready
        self._env = env
        self._log = log
        self._process: GuardedProcess | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises StackError where it does not run."""
        if self._process is None:
            raise StackError(f"The {self._name} is not started.")
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs, and where it was ended from here."""
        return None if self._process is None else self._process.exit_status

    def require_running(self) -> None:
        """Raise StackError, with what it said last, when it has ended by itself."""
        if self._process is not None and self._process.exit_status is not None:
            raise StackError(f"The {self._name} has ended by itself: {self._process.last_line}")

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        self._process = GuardedProcess(self._command, env=self._env, log=self._log)

    def end(self, grace: float) -> None:
        """Ask it to end, and kill it after `grace` seconds; does nothing where it was ended already."""
        if self._process is not None:
            self._process.end(grace=grace)
            self._process = None

    def kill(self) -> None:
        """Kill it at once (SIGKILL), as the kernel does when the memory is full: it can clean nothing up."""
        self.end(grace=0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop it as a debugger or an overloaded machine would, and let it go on."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def is_ready(self) -> bool:
        """Ask it whether it is ready."""
        return status_of(self.url + self._ready) == 200

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until it says that it is ready; raises StackError when it ends, or is not ready after `timeout` seconds."""
        if self._process is None:
            raise StackError(f"The {self._name} is not started.")
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self.exit_status is not None:
                raise StackError(f"The {self._name} ended while it was starting: {self._process.last_line}")
            if time.monotonic() > deadline:
                raise StackError(f"The {self._name} is not ready after {timeout:.0f} s: {self._process.last_line}")
            time.sleep(0.05)
