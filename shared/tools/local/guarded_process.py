"""A child process that is ended with its whole group, and never outlives the process that started it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Reads until our end of the pipe closes. The kernel closes it however we die, so this works after SIGKILL too, on every
# Unix, and unlike PR_SET_PDEATHSIG it does not fire when only the thread that started the child has ended.
_GUARD = 'read -r _; kill -s KILL -- "-$1"; sleep 1; [ -z "$2" ] || rm -rf -- "$2"'


class GuardedProcess:
    """A process in a group of its own, beside a small shell that kills the group once this process has gone.

    `scratch` is a directory that the shell then removes as well. Standard output and error go to `log`.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], log: Path, scratch: Path | None = None
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            # Its own group: Ctrl-C in the terminal reaches us only, and we decide what ends when.
            self._process = subprocess.Popen(
                command, env=env, cwd=scratch, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )
        guard = ["/bin/sh", "-c", _GUARD, "guard", str(self.pid), str(scratch or "")]
        self._guard = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
        )

    @property
    def pid(self) -> int:
        """The process id, and the id of its group."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        return self._process.poll()

    @property
    def last_line(self) -> str:
        """The last line of its log, for who has to say why it is not there."""
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1][:500] if lines else "it said nothing"

    def end(self, *, grace: float) -> None:
        """Ask it to end with SIGTERM, and after `grace` seconds kill the group; without grace kill at once."""
        if grace > 0 and self.exit_status is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._guard.kill()
        self._guard.communicate()
