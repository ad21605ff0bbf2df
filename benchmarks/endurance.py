"""What only time and a full store show: spans lost under a long load, memory that grows, orders that cost more and more."""

import secrets
import sqlite3
import statistics
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx

from benchmarks import load, systems
from benchmarks.receiver import PARTS_OF_AN_ORDER
from benchmarks.rows import Row, ratios, spread
from benchmarks.systems import Setting, product, receiver

CONNECTIONS = 64
STORED = 100_000


def soak(setting: Setting, name: str, seconds: float, rate: float | None = None, delay: float = 0.0) -> dict[str, str]:
    """Load the system for long, and count what the receiver got of its traces."""
    own = setting.within(f"soak {name}")
    with receiver(own.directory, delay) as url:
        with product(own.within("system"), OPENOBSERVE_URL=url) as running:
            load.warm_up(running.urls, CONNECTIONS)
            warm = [process.memory_now_mb() for process in running.processes]
            result = load.run(running.urls, CONNECTIONS, seconds, rate)
            peak = [process.memory_mb() for process in running.processes]
            now = [process.memory_now_mb() for process in running.processes]
        got = httpx.get(f"{url}/summary", timeout=600, trust_env=False).json()
    orders = got["orders"]
    return {
        "run": f"{name}, {seconds:.0f} s",
        "orders/s": f"{result.rate:.0f}",
        "orders traced": f"{orders:,}",
        "spans lost": f"{PARTS_OF_AN_ORDER * orders - got['of_orders']:,}",
        "whole traces": f"{100 * got['whole'] / max(1, orders):.2f} %",
        "spans an order": f"{got['spans'] / max(1, orders):.2f}",
        "kB an order": f"{got['bytes'] / max(1, orders) / 1000:.1f}",
        "API MB: warm, end, peak": f"{warm[0]:.0f}, {now[0]:.0f}, {peak[0]:.0f}",
        "worker MB": f"{warm[1]:.0f}, {now[1]:.0f}, {peak[1]:.0f}",
        "failed": str(result.failed),
    }


def with_a_full_store(setting: Setting, seconds: float, repeats: int) -> list[dict[str, str]]:
    """Measure with no order stored and with 100,000, in turns."""
    rows = [Row("an empty store", CONNECTIONS), Row(f"{STORED:,} orders stored", CONNECTIONS)]
    for repeat in range(repeats):
        for row in rows:
            own = setting.within(f"{repeat} {row.name}")
            if row is not rows[0]:
                with product(own):
                    pass  # makes the tables
                _fill(own.directory)
            with product(own) as running:
                load.warm_up(running.urls, CONNECTIONS)
                row.measure(running, seconds)
            setting.empty_receiver()
    return [
        {
            "store": row.name,
            "orders/s (min-max)": spread(row.rate),
            "to the empty one": f"{spread(ratios(lambda each: each.rate, row, rows[0]), 2)} x",
            "peak MB": f"{max(row.memory):.0f}",
        }
        for row in rows
    ]


def _fill(directory: Path) -> None:
    """Store orders that were decided, and their decisions, as if they had come in before."""
    traces = [f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01" for _ in range(STORED)]
    old = [(f"OLD-{number}", trace) for number, trace in enumerate(traces)]
    with closing(sqlite3.connect(directory / "orders.db")) as orders, orders:
        orders.executemany(
            "INSERT INTO orders (order_id, traceparent, lines, created_at, status, decided_at, ask_at, ask_delay)"
            " VALUES (?, ?, '[[\"widget\", 1]]', 1.0, 'success', 2.0, 11.0, 10.0)",
            old,
        )
    with closing(sqlite3.connect(directory / "inventory.db")) as inventory, inventory:
        inventory.executemany(
            "INSERT INTO decisions (order_id, traceparent, status, decided_at) VALUES (?, ?, 'success', 2.0)", old
        )


def start_up(setting: Setting, repeats: int) -> list[dict[str, str]]:
    """Time how long each service takes from its start until it is ready."""
    found = [systems.seconds_to_ready(setting.within(f"start {repeat}")) for repeat in range(repeats)]
    return [
        {"service": module, "seconds from start to ready (min-max)": _seconds([each[module] for each in found])}
        for module in found[0]
    ]


def _seconds(figures: Sequence[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}-{max(figures):.2f})"
