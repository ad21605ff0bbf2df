"""`make bench`: this system beside two others that do less, in turns, on one machine; `make bench-scale`: more of each."""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.compare import as_table, compare, targets
from benchmarks.endurance import soak, start_up, with_a_full_store
from benchmarks.rows import table
from benchmarks.scale import scale
from benchmarks.systems import Setting, receiver
from shared.tools.local.rabbitmq import ObtainedBroker, obtain_broker

SLOW_RATE, SLOW_SECONDS = 300.0, 0.2


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the benchmarks and print the results as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of twenty")
    parser.add_argument("--scale", action="store_true", help="measure more of each service and shards instead")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of the whole comparison (5)")
    parser.add_argument(
        "--soak", type=float, metavar="SECONDS", help="only load it for so long instead, at 300 orders/s"
    )
    chosen = parser.parse_args()
    if chosen.repeats < 1:
        parser.error("--repeats is 1 or more")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="traced-orders-bench-") as name:
        directory = Path(name)
        with obtain_broker(os.environ.get("AMQP_URL"), say=say) as broker, receiver(directory) as url:
            setting = Setting(broker.amqp_url, url, "root@example.com", "Traced-orders-1", directory)
            _tell(broker)
            if chosen.scale:
                print(table(scale(setting, broker, 8.0, 3, say)))
            elif chosen.soak:
                print(table([soak(setting, "300 orders/s", chosen.soak, SLOW_RATE)]))
            else:
                _measure(setting, is_quick=chosen.quick, repeats=1 if chosen.quick else chosen.repeats)
    say(f"done in {time.monotonic() - began:.0f} s")


def _measure(setting: Setting, *, is_quick: bool, repeats: int) -> None:
    seconds, soak_seconds = (3.0, 10.0) if is_quick else (8.0, 60.0)
    rows = compare(setting, [1, 64] if is_quick else [1, 64, 256], seconds, repeats, say)
    print(f"{repeats} repeats of {seconds:.0f} s in turns, medians:\n")
    print(table(as_table(rows)))
    print(table(targets(rows)))
    slow = f"{SLOW_RATE:.0f} orders/s, receiver takes {SLOW_SECONDS * 1000:.0f} ms an answer"
    soaks = [
        soak(setting, "full load", soak_seconds),
        soak(setting, slow, soak_seconds, SLOW_RATE, SLOW_SECONDS),
    ]
    print(table(soaks))
    if not is_quick:
        print(table(with_a_full_store(setting, seconds, repeats)))
        print(table(start_up(setting, repeats)))


def _tell(broker: ObtainedBroker) -> None:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {broker.description}.\n", flush=True)


if __name__ == "__main__":
    main()
