"""How often threads wait for each other: futex calls an order. To count them slows everything, so a run of its own does."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import load
from benchmarks.contenders import Contender
from benchmarks.processes import Process
from benchmarks.systems import Setting
from tests.waiting import eventually


def is_countable() -> bool:
    """Tell whether there is an `strace`, which counts them."""
    return shutil.which("strace") is not None


def futex_calls(
    contenders: Sequence[tuple[Setting, Contender]], connections: int, seconds: float
) -> list[dict[str, str]]:
    """Count the futex calls of each contender in its setting, one after the other."""
    found = []
    for setting, contender in contenders:
        own = setting.within(f"futex {contender.name}")
        with contender.system(own, **contender.environment) as running, ExitStack() as stack:
            load.warm_up(running.urls, connections)
            counts = [stack.enter_context(_counting(process, own.directory)) for process in running.processes]
            orders = max(1, load.run(running.urls, connections, seconds).answered)
            stack.close()
            api, worker = (_calls(file) / orders for file in counts)
        found.append(
            {
                "system": contender.name,
                "connections": str(connections),
                "futex calls an order: API": f"{api:.1f}",
                "worker": f"{worker:.1f}",
            }
        )
        setting.empty_receiver()
    return found


@contextmanager
def _counting(process: Process, directory: Path) -> Iterator[Path]:
    """Count in a file, which is written at the end."""
    file = directory / f"futex-{process.pid}"
    counting = subprocess.Popen(
        ["strace", "-f", "-c", "-e", "trace=futex", "-o", str(file), "-p", str(process.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(process.is_traced, what=f"strace of {process.pid}")
        yield file
    finally:
        counting.send_signal(signal.SIGTERM)
        counting.wait(30)


def _calls(file: Path) -> int:
    for line in file.read_text().splitlines():
        words = line.split()
        if words and words[-1] == "futex":
            return int(words[3])
    return 0
