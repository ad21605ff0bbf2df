"""What runs on this machine, as `ps` tells it."""

import subprocess
from typing import NamedTuple


class Running(NamedTuple):
    """A process: its id, that of its parent, and its command line."""

    pid: int
    parent: int
    command: str


def running_processes() -> list[Running]:
    """Give every process, with command lines in full."""
    listing = subprocess.run(["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    fields = (line.split(maxsplit=2) for line in listing.splitlines())
    return [Running(int(pid), int(parent), command) for pid, parent, command in fields]
