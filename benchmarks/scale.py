"""More of each on one machine: what an order costs each part, and how far shards are independent of each other."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks import load
from benchmarks.processes import Family, Process
from benchmarks.rows import Row, spread
from benchmarks.systems import Running, Setting, product
from shared.tools.local.postgres import PrivatePostgres, find_postgres, private_postgres
from shared.tools.local.rabbitmq import ObtainedBroker

CONNECTIONS = 64
COUNTS = (1, 2, 4)


def scale(
    setting: Setting, broker: ObtainedBroker, seconds: float, repeats: int, say: Callable[[str], None]
) -> list[dict[str, str]]:
    """Measure 1, 2 and 4 of each service on one PostgreSQL, one of each on SQLite, and two shards, in turns."""
    rows: dict[str, Row] = {}
    others: dict[str, list[Process]] = {"broker": [Process(broker.node.pids[0])]} if broker.node else {}
    with ExitStack() as stack:
        server = _postgres(stack)
        postgres: dict[str, list[Process]] = {"PostgreSQL": [Family(server.pid)]} if server and server.pid else {}
        for repeat in range(repeats):
            for name, shards, count, on_postgres in _layouts(server is not None, broker.management_url is not None):
                own = setting.within(f"{repeat} {name}")
                with _running(own, broker, shards, count, server if on_postgres else None) as running:
                    load.warm_up(running.urls, CONNECTIONS)
                    rows.setdefault(name, Row(name, CONNECTIONS)).measure(
                        running, seconds, others | postgres if on_postgres else others
                    )
                say(f"repeat {repeat + 1}: {name} done")
                setting.empty_receiver()
    return [
        {
            "layout": row.name,
            "orders/s (min-max)": spread(row.rate),
            "p99 ms": f"{statistics.median(row.p99):.0f}",
            "CPU ms an order: APIs": row.cpu_of("APIs"),
            "workers": row.cpu_of("workers"),
            "broker": row.cpu_of("broker"),
            "PostgreSQL": row.cpu_of("PostgreSQL"),
            "failed": str(row.failed),
        }
        for row in rows.values()
    ]


def _layouts(has_postgres: bool, can_shard: bool) -> Iterator[tuple[str, int, int, bool]]:
    """Name each layout: how many shards, how many of each service in it, and whether on PostgreSQL."""
    yield "1 API, 1 worker, SQLite", 1, 1, False
    if has_postgres:
        for count in COUNTS:
            yield f"{_many(count, 'API')}, {_many(count, 'worker')}, PostgreSQL", 1, count, True
    if can_shard:
        yield "2 shards of 1 API, 1 worker, SQLite", 2, 1, False


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _postgres(stack: ExitStack) -> PrivatePostgres | None:
    if find_postgres() is None:
        return None
    return stack.enter_context(private_postgres(Path(stack.enter_context(TemporaryDirectory(prefix="traced-orders-")))))


@contextmanager
def _running(
    setting: Setting, broker: ObtainedBroker, shards: int, count: int, server: PrivatePostgres | None
) -> Iterator[Running]:
    """Run shards that share nothing but the machine: each has a virtual host, databases and processes of its own."""
    with ExitStack() as stack:
        found = []
        for shard in range(shards):
            own = setting.within(f"shard {shard}")
            if shards > 1:
                own = replace(own, amqp_url=stack.enter_context(_virtual_host(broker, f"shard-{shard}")))
            databases = (
                None
                if server is None
                else {name: stack.enter_context(server.database()) for name in ("orders", "inventory")}
            )
            found.append(stack.enter_context(product(own, apis=count, workers=count, databases=databases)))
        yield Running(
            [url for each in found for url in each.urls],
            [process for each in found for process in each.apis],
            [process for each in found for process in each.workers],
        )


@contextmanager
def _virtual_host(broker: ObtainedBroker, name: str) -> Iterator[str]:
    api = httpx.Client(base_url=f"{broker.management_url}/api", auth=("guest", "guest"), timeout=30, trust_env=False)
    with api:
        api.put(f"/vhosts/{name}").raise_for_status()
        try:
            yield f"{broker.amqp_url.rstrip('/')}/{name}"
        finally:
            api.delete(f"/vhosts/{name}").raise_for_status()
