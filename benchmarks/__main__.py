"""`make bench`: this system beside two others that do less, in turns, on one machine."""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks import load, systems
from benchmarks.systems import Running, Setting
from shared.local.guarded_process import GuardedProcess
from shared.local.ports import LOOPBACK, claim_port, port_of
from shared.local.rabbitmq import obtain_broker
from tests.waiting import eventually

System = Callable[..., AbstractContextManager[Running]]
CONTENDERS: dict[str, tuple[System, dict[str, str]]] = {
    "traced orders": (systems.product, {}),
    "traced orders, untraced": (systems.product, {"OTEL_SDK_DISABLED": "true"}),
    "patterns.RPC, traced": (systems.rpc, {}),
    "tutorial's HTTP pair, traced": (systems.tutorial, {}),
}


@dataclass
class Row:
    """What the repeats of one system at one number of connections measured."""

    name: str
    connections: int
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu_api: list[float] = field(default_factory=list)
    cpu_worker: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    failed: int = 0


@contextmanager
def receiver(directory: Path, delay: float = 0.0) -> Iterator[str]:
    """Run a receiver and give its URL."""
    with claim_port() as claim:
        url = f"http://{LOOPBACK}:{port_of(claim)}"
        environment = {**os.environ, "PORT": str(port_of(claim)), "RECEIVER_DELAY": str(delay)}
        command = [sys.executable, "-m", "benchmarks.receiver"]
        process = GuardedProcess(command, env=environment, log=directory / "receiver.log")
        try:
            eventually(lambda: _answers(url), within=20, what="the receiver")
            yield url
        finally:
            process.end(grace=2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/summary", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def compare(setting: Setting, connections: list[int], seconds: float, repeats: int) -> list[Row]:
    """Measure every contender at every number of connections, in turns."""
    rows = {(name, count): Row(name, count) for count in connections for name in CONTENDERS}
    for repeat in range(repeats):
        for name, (system, environment) in CONTENDERS.items():
            directory = setting.directory / f"{repeat}-{name.replace(' ', '-').replace(chr(39), '')}"
            directory.mkdir()
            own = Setting(setting.amqp_url, setting.receiver_url, setting.user, setting.password, directory)
            with system(own, **environment) as running:
                load.run(running.url, max(connections), 3)
                for count in connections:
                    _measure(running, rows[name, count], seconds)
            say(f"repeat {repeat + 1}: {name} done")
            httpx.get(f"{setting.receiver_url}/summary", timeout=120, trust_env=False)
    return list(rows.values())


def _measure(running: Running, row: Row, seconds: float) -> None:
    before = [process.cpu_seconds() for process in running.processes]
    result = load.run(running.url, row.connections, seconds)
    orders = max(1, len(result.latencies))
    cpu = [
        (process.cpu_seconds() - was) / orders * 1000 for process, was in zip(running.processes, before, strict=True)
    ]
    row.rate.append(result.rate)
    row.p50.append(result.percentile(0.50))
    row.p99.append(result.percentile(0.99))
    row.cpu_api.append(cpu[0])
    row.cpu_worker.append(cpu[1])
    row.memory.append(max(process.memory_mb() for process in running.processes))
    row.failed += result.failed


def soak(setting: Setting, name: str, seconds: float, rate: float | None, delay: float) -> dict[str, str]:
    """Run the product for long and count what the receiver got of its traces."""
    directory = setting.directory / f"soak-{name}"
    directory.mkdir()
    with receiver(directory, delay) as url:
        own = Setting(setting.amqp_url, url, setting.user, setting.password, directory)
        with systems.product(own) as running:
            httpx.get(f"{url}/summary", timeout=60, trust_env=False)
            result = load.run(running.url, 64, seconds, rate)
            memory = [process.memory_mb() for process in running.processes]
        orders = len(result.latencies)
        got = httpx.get(f"{url}/summary", timeout=300, trust_env=False).json()
    return {
        "run": name,
        "orders": f"{orders:,}",
        "orders/s": f"{result.rate:.0f}",
        "whole traces": f"{got['whole']:,} ({100 * got['whole'] / max(1, orders):.2f} %)",
        "MB API, worker": f"{memory[0]:.0f}, {memory[1]:.0f}",
        "failed": str(result.failed),
    }


def table(rows: list[Row]) -> list[str]:
    """Write the comparison as Markdown: medians, and the spread of the rate."""
    lines = [
        "| system | connections | orders/s (min-max) | p50 ms | p99 ms | CPU ms an order: API + worker | peak MB | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda each: each.connections):
        middle = statistics.median
        cpu = f"{middle(row.cpu_api):.2f} + {middle(row.cpu_worker):.2f}"
        lines.append(
            f"| {row.name} | {row.connections} | {middle(row.rate):.0f} ({min(row.rate):.0f}-{max(row.rate):.0f}) "
            f"| {middle(row.p50):.1f} | {middle(row.p99):.1f} | {cpu} | {max(row.memory):.0f} | {row.failed} |"
        )
    return lines


def targets(rows: list[Row]) -> list[str]:
    """Set the measurements against the targets, pair by pair: the median of the ratios of the repeats."""
    by_key = {(row.name, row.connections): row for row in rows}
    product, untraced, rpc = "traced orders", "traced orders, untraced", "patterns.RPC, traced"

    def ratio(figure: Callable[[Row], list[float]], one: str, other: str, connections: int) -> float:
        pairs = zip(figure(by_key[one, connections]), figure(by_key[other, connections]), strict=True)
        return statistics.median(a / b for a, b in pairs)

    def cpu(row: Row) -> list[float]:
        return [a + b for a, b in zip(row.cpu_api, row.cpu_worker, strict=True)]

    def line(target: str, measured: float) -> str:
        return f"| {target} | {measured:.2f} x |"

    lines = ["| target | measured |", "|---|---|"]
    for count in sorted({row.connections for row in rows} - {1}):
        at = f"{count} connections"
        lines += [
            line(f"at least 1.5 x the orders/s of patterns.RPC, {at}", ratio(lambda r: r.rate, product, rpc, count)),
            line(f"at most 0.7 x its CPU an order, {at}", ratio(cpu, product, rpc, count)),
            line(f"at least 0.75 x the orders/s untraced, {at}", ratio(lambda r: r.rate, product, untraced, count)),
        ]
    return [
        *lines,
        line("at most 0.35 x the p99 of patterns.RPC, 1 connection", ratio(lambda r: r.p99, product, rpc, 1)),
        line("at most 1 x its p50, 1 connection", ratio(lambda r: r.p50, product, rpc, 1)),
        line("at most 2 x the p99 untraced, 1 connection", ratio(lambda r: r.p99, product, untraced, 1)),
    ]


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the benchmarks and print the result as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of a quarter of an hour")
    quick = parser.parse_args().quick
    seconds, repeats, soak_seconds = (4.0, 1, 10.0) if quick else (8.0, 5, 60.0)
    connections = [1, 64] if quick else [1, 64, 256]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="traced-orders-bench-") as name:
        directory = Path(name)
        with obtain_broker(os.environ.get("AMQP_URL"), say=say) as broker, receiver(directory) as url:
            setting = Setting(broker.amqp_url, url, "root@example.com", "Traced-orders-1", directory)
            rows = compare(setting, connections, seconds, repeats)
            runs = [
                soak(setting, "full load", soak_seconds, None, 0.0),
                soak(setting, "300 orders/s, receiver takes 200 ms an answer", soak_seconds, 300.0, 0.2),
            ]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {broker.description}; {repeats} repeats of {seconds:.0f} s, medians.\n"
    )
    print("\n".join(table(rows)), "\n")
    print("\n".join(targets(rows)), "\n")
    print("| " + " | ".join(runs[0]) + " |\n|" + "---|" * len(runs[0]))
    for run in runs:
        print("| " + " | ".join(run.values()) + " |")
    say(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
