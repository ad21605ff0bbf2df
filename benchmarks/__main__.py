"""`make bench`: this system beside two others that do less, in turns, on one machine; `make bench-scale`: more of each."""

import argparse
import os
import platform
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.against import against
from benchmarks.compare import as_table, compare, targets
from benchmarks.endurance import soak, start_up, with_a_full_store
from benchmarks.load import generator
from benchmarks.processes import Process
from benchmarks.rows import table
from benchmarks.scale import scale
from benchmarks.systems import CHECKOUT, Setting, receiver
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
    parser.add_argument("--against", type=Path, metavar="PATH", help="only set the product to that of another checkout")
    parser.add_argument(
        "--product", type=Path, metavar="PATH", default=CHECKOUT, help="the checkout of the product (this)"
    )
    parser.add_argument("--connections", type=int, nargs="+", metavar="N", help="with --against (64)")
    parser.add_argument("--seconds", type=float, metavar="N", help="of each measurement (8)")
    chosen = parser.parse_args()
    if chosen.repeats < 1:
        parser.error("--repeats is 1 or more")
    for checkout in filter(None, (chosen.product, chosen.against)):
        if not (checkout / "order_api").is_dir():
            parser.error(f"{checkout} is no checkout of this project")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="traced-orders-bench-") as name:
        directory = Path(name)
        with obtain_broker(os.environ.get("AMQP_URL"), say=say) as broker, receiver(directory) as url:
            setting = Setting(broker.amqp_url, url, "root@example.com", "Traced-orders-1", directory, chosen.product)
            _tell(broker)
            if chosen.against:
                checkouts = (chosen.product, chosen.against)
                node = [Process(broker.node.pids[0])] if broker.node else []
                connections, seconds = chosen.connections or [64], chosen.seconds or 8.0
                print(table(against(setting, checkouts, connections, seconds, chosen.repeats, node, say)))
            elif chosen.scale:
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
    loads = " ".join(f"{each:.2f}" for each in os.getloadavg())
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {_cpu_model()}, {machine}, load average {loads} at the start, {broker.description}."
    )
    print(f"The load comes from {generator()}.\n", flush=True)


def _cpu_model() -> str:
    """Name the processor, as the kernel does."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "an unknown processor"


if __name__ == "__main__":
    main()
