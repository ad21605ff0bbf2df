"""What the operating system says of a process that is measured."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process that is measured."""

    pid: int
    log: Path | None = None

    @property
    def has_ended(self) -> bool:
        """Tell whether it runs no more; its parent is this process, which has not asked for its status yet."""
        return _stat(self.pid)[0] == "Z"

    def last_words(self) -> str:
        """Give the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log else ""

    def cpu_seconds(self) -> float:
        """CPU time so far, of all its threads."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def switches(self) -> "Switches":
        """Count the context switches so far, of all threads that it has now."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                found.append(task.read_text())
        return Switches(
            voluntary=sum(_number(status, "\nvoluntary_ctxt_switches") for status in found),
            involuntary=sum(_number(status, "nonvoluntary_ctxt_switches") for status in found),
        )

    def is_traced(self) -> bool:
        """Tell whether a debugger or the like is attached to all its threads."""
        found = [task.read_text() for task in Path(f"/proc/{self.pid}/task").glob("*/status")]
        return all(_number(status, "TracerPid") for status in found)

    def memory_mb(self) -> float:
        """Peak resident memory."""
        return self._status("VmHWM")

    def memory_now_mb(self) -> float:
        """Resident memory."""
        return self._status("VmRSS")

    def _status(self, name: str) -> float:
        return _number(Path(f"/proc/{self.pid}/status").read_text(), name) / 1024


@dataclass(frozen=True)
class Switches:
    """Context switches: a thread waited for something, or was made to leave the processor."""

    voluntary: int
    involuntary: int


class Family(Process):
    """A process that is measured together with its children, those that have ended too."""

    def cpu_seconds(self) -> float:
        """CPU time so far, of them all."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        fields = _stat(self.pid)
        ended = (int(fields[13]) + int(fields[14])) / _TICKS
        return super().cpu_seconds() + ended + sum(Process(int(child)).cpu_seconds() for child in children)


def _stat(pid: int) -> list[str]:
    """Read what the kernel knows of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _number(status: str, name: str) -> int:
    return int(status.split(f"{name}:")[1].split()[0])
