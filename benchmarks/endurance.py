"""What only time and a full store show: spans lost under a long load, memory that grows, orders that cost more and more."""

import secrets
import sqlite3
import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx

from benchmarks import load, systems
from benchmarks.contenders import Contender
from benchmarks.rows import Row, ratios, spread
from benchmarks.systems import Setting, product, receiver

CONNECTIONS = 64
STORED = 100_000


def soak(
    setting: Setting,
    contender: Contender,
    name: str,
    seconds: float,
    rate: float | None = None,
    delay: float = 0.0,
) -> dict[str, str]:
    """Load a system for long, and set what the receiver got of its traces to the orders that it has placed meanwhile."""
    outer = setting.within(f"soak {contender.name} {name}")
    with receiver(outer.directory, delay) as url:
        own = replace(outer.within("system"), receiver_url=url)
        with contender.system(own, **contender.environment) as running:
            load.warm_up(running.urls, CONNECTIONS)
            own.wait_for_last_spans()
            own.empty_receiver()
            warm = [process.memory_now_mb() for process in running.processes]
            result = load.run(running.urls, CONNECTIONS, seconds, rate)
            peak = [process.memory_mb() for process in running.processes]
            now = [process.memory_now_mb() for process in running.processes]
            own.wait_for_last_spans()
        got = httpx.get(f"{url}/summary", timeout=600, trust_env=False).json()
    by_parts = {int(parts): traces for parts, traces in got["traces_by_parts"].items()}
    whole = sum(traces for parts, traces in by_parts.items() if parts >= contender.parts)
    arrived = sum(min(parts, contender.parts) * traces for parts, traces in by_parts.items())
    due = contender.parts * result.answered
    orders = max(1, result.answered)
    return {
        "system": contender.name,
        "run": f"{name}, {seconds:.0f} s",
        "orders/s": f"{result.rate:.0f}",
        "orders placed": f"{result.answered:,}",
        "their spans lost": f"{due - arrived:,} of {due:,}",
        "whole traces": f"{100 * whole / orders:.2f} %",
        "served by transactions, an order": f"{got['served'] / orders:.2f}" if got["served"] else "-",
        "spans an order": f"{got['spans'] / orders:.2f}",
        "kB an order": f"{got['bytes'] / orders / 1000:.1f}",
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
