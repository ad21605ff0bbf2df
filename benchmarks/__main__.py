"""`make bench`: this system beside others, in turns, on one machine; `--against` beside another checkout of itself."""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.against import against
from benchmarks.compare import as_table, compare
from benchmarks.contenders import ALL, FLOOR, PRODUCT, RPC, Contender
from benchmarks.endurance import soak, start_up, with_a_full_store
from benchmarks.futex import futex_calls, is_countable
from benchmarks.machine import conditions, load_average
from benchmarks.processes import Process
from benchmarks.rows import table
from benchmarks.scale import scale
from benchmarks.systems import CHECKOUT, Setting, receiver
from benchmarks.targets import against_targets
from shared.tools.local.rabbitmq import obtain_broker

SLOW_RATE, SLOW_SECONDS = 300.0, 0.2
FUTEX_SECONDS = 3.0
MAIN = (PRODUCT, FLOOR, RPC)


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)


def show(rows: list[dict[str, str]]) -> None:
    """Print a table."""
    print(table(rows), flush=True)


def main() -> None:
    """Run the benchmarks and print the results as Markdown."""
    chosen = _arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="traced-orders-bench-") as name:
        directory = Path(name)
        with obtain_broker(os.environ.get("AMQP_URL"), say=say) as broker, receiver(directory) as url:
            setting = Setting(broker.amqp_url, url, "root@example.com", "Traced-orders-1", directory, chosen.product)
            others = {"broker": [Process(broker.node.pids[0])]} if broker.node else {}
            print(conditions(broker.description), flush=True)
            if chosen.scale:
                show(scale(setting, broker, chosen.seconds or 8.0, 3, say))
            elif chosen.soak:
                show([soak(setting, PRODUCT, f"{SLOW_RATE:.0f} orders/s", chosen.soak, SLOW_RATE)])
            elif chosen.against:
                checkouts = (chosen.product, chosen.against)
                counts, seconds = chosen.connections or [64], chosen.seconds or 8.0
                show(against(setting, checkouts, counts, seconds, chosen.repeats, others, say))
                if chosen.futex:
                    pair = [(replace(setting, checkout=each), replace(PRODUCT, name=str(each))) for each in checkouts]
                    show(futex_calls(pair, max(counts), FUTEX_SECONDS))
            elif chosen.futex:
                show(futex_calls([(setting, each) for each in MAIN], 64, FUTEX_SECONDS))
            else:
                _measure(setting, others, chosen)
            print(f"Load average at the end: {load_average()}.", flush=True)
    say(f"done in {time.monotonic() - began:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="six minutes instead of an hour")
    which.add_argument(
        "--only", nargs="+", metavar="WORD", help="only compare the systems whose names hold one of these"
    )
    which.add_argument("--scale", action="store_true", help="measure more of each service and shards instead")
    which.add_argument("--soak", type=float, metavar="SECONDS", help="only load it for so long, at 300 orders/s")
    which.add_argument("--against", type=_checkout, metavar="PATH", help="only set it to that of another checkout")
    parser.add_argument(
        "--futex", action="store_true", help="count futex calls by strace: after --against, else nothing but that"
    )
    parser.add_argument("--product", type=_checkout, metavar="PATH", default=CHECKOUT, help="its checkout (this)")
    parser.add_argument("--repeats", type=int, metavar="N", help="turns of the whole comparison (5)")
    parser.add_argument("--connections", type=int, nargs="+", metavar="N", help="of each measurement, in turn")
    parser.add_argument("--seconds", type=float, metavar="N", help="of each measurement (8)")
    chosen = parser.parse_args()
    if chosen.repeats is None:
        chosen.repeats = 1 if chosen.quick else 5
    if chosen.repeats < 1:
        parser.error("--repeats is 1 or more")
    if not _chosen(chosen.only):
        parser.error(f"--only: no system's name holds {' or '.join(chosen.only)}")
    if chosen.futex and not is_countable():
        parser.error("--futex needs strace")
    return chosen


def _checkout(path: str) -> Path:
    found = Path(path).resolve()
    if not (found / "order_api").is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no checkout of this project")
    return found


def _measure(setting: Setting, others: dict[str, list[Process]], chosen: argparse.Namespace) -> None:
    seconds = chosen.seconds or (3.0 if chosen.quick else 8.0)
    counts = chosen.connections or ([1, 64] if chosen.quick else [1, 4, 8, 16, 32, 64, 256])
    rows = compare(setting, _chosen(chosen.only), counts, seconds, chosen.repeats, others, say)
    print(f"{chosen.repeats} repeats of {seconds:g} s in turns, medians:\n")
    show(as_table(rows))
    if targets := against_targets(rows):
        show(targets)
    if chosen.only:
        return
    soak_seconds = 10.0 if chosen.quick else 60.0
    slow = f"{SLOW_RATE:.0f} orders/s, receiver takes {SLOW_SECONDS * 1000:.0f} ms an answer"
    show(
        [
            *(soak(setting, each, "full load", soak_seconds) for each in MAIN),
            *(soak(setting, each, slow, soak_seconds, SLOW_RATE, SLOW_SECONDS) for each in MAIN),
        ]
    )
    if not chosen.quick:
        show(with_a_full_store(setting, seconds, chosen.repeats))
        show(start_up(setting, chosen.repeats))
        if is_countable():
            show(futex_calls([(setting, each) for each in MAIN], 64, FUTEX_SECONDS))


def _chosen(words: list[str] | None) -> list[Contender]:
    return [each for each in ALL if words is None or any(word in each.name for word in words)]


if __name__ == "__main__":
    main()
