"""What works for its customers: two order APIs, two inventory workers, their databases, and the receiver of their spans."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.postgres import PrivatePostgres
from tests.environment import plain_environment
from tests.postgres import connect, private_postgres
from tests.receiver import Receiver
from tests.system import Service
from tests.torture.network import Wire, running_wires

REPLY_TIMEOUT = 2.0
END_SECONDS = 40.0
"""Longest orderly end: 15 s for open requests, 10 s to drain, 5 s to flush, and some for a busy machine."""
RECONNECT_SECONDS = 30.0
"""Longest wait after a crash of the broker until the services work again, before it may crash once more."""

ORDER_API = "order-api"
INVENTORY_WORKER = "inventory-worker"
SERVICES = (ORDER_API, INVENTORY_WORKER)
SLOTS = tuple(f"{service} {number}" for service in SERVICES for number in (1, 2))
"""The names of the places in which a service runs."""


class Broker(Protocol):
    """The RabbitMQ that the services share: one node or several."""

    @property
    def amqp_url(self) -> str:
        """The way for a witness, who suffers none of the faults."""

    def url_for(self, slot: str) -> str:
        """Give the AMQP_URL of the service in a slot."""


@dataclass(slots=True)
class Life:
    """One process from its start to its end; times are nanoseconds since the epoch."""

    service: str
    instance: str
    started_ns: int
    killed_ns: int | None = None
    """When it got SIGKILL; None for a process that ended in order or still runs."""
    exit_status: int | None = None


class Collector(Receiver):
    """The receiver, which tells the values of a metric of each process apart too."""

    def by_instance(self, name: str) -> dict[str, float]:
        """Give the last value of a gauge or counter of each process, summed over its series."""
        self.metric(name)
        found: dict[str, float] = {}
        for (of, instance, _), value in self._values.items():
            if of == name:
                found[instance] = found.get(instance, 0.0) + value
        return found


class Slot:
    """A place for one service process: its port, and every life that it has had."""

    def __init__(self, name: str, port: int, environment: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self.service = _service_of(name)
        self.url = f"http://{LOOPBACK}:{port}"
        self.log = directory / f"{self.name.replace(' ', '-')}.log"
        self.lives: list[Life] = []
        self._port = port
        self._environment = environment
        self._process: Service | None = None

    @property
    def process(self) -> Service:
        """The process that runs here now."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process

    async def start(self) -> None:
        """Start the service and wait until it serves; the broker may be away meanwhile."""
        started = time.time_ns()
        self._process = Service(self.service.replace("-", "_"), self._port, self._environment, self.log)
        self.lives.append(Life(self.service, f"{os.uname().nodename}-{self._process.pid}", started))
        await self.wait_for("/health", within=60)

    async def wait_for(self, path: str, within: float) -> None:
        """Wait until a probe answers 200."""
        deadline = time.monotonic() + within
        async with httpx.AsyncClient(base_url=self.url, timeout=5, trust_env=False) as http:
            while True:
                assert self.process.exit_status is None, f"{self.name} has ended by itself, see {self.log}"
                try:
                    if (await http.get(path)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                assert time.monotonic() < deadline, f"{self.name} has no good answer to {path} after {within:.0f} s"
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """Kill the process at once."""
        self.process.signal(signal.SIGKILL)
        self.lives[-1].killed_ns = time.time_ns()
        await asyncio.to_thread(self.process.kill)
        self.lives[-1].exit_status = -signal.SIGKILL

    async def terminate(self) -> None:
        """Ask the process to end, and wait for it."""
        self.lives[-1].exit_status = await asyncio.to_thread(self.process.end, END_SECONDS)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process for a while."""
        with self.process.paused():
            yield

    async def end_quietly(self) -> None:
        """End what still runs when the run is over, whatever its state."""
        if self._process is not None:
            await asyncio.to_thread(self._process.kill)


class Plant:
    """Everything that runs."""

    def __init__(
        self,
        broker: Broker,
        collector: Collector,
        backend: Wire,
        databases: Mapping[str, str],
        servers: Mapping[str, PrivatePostgres],
    ) -> None:
        self.broker = broker
        self.collector = collector
        self.backend = backend
        """The way of the services to the collector."""
        self.databases = databases
        self.servers = servers
        """The PostgreSQL of each service; none where they use SQLite."""
        self.slots: dict[str, Slot] = {}

    @property
    def apis(self) -> list[Slot]:
        """The order APIs."""
        return [slot for slot in self.slots.values() if slot.service == ORDER_API]

    @property
    def lives(self) -> list[Life]:
        """Every process that ran."""
        return [life for slot in self.slots.values() for life in slot.lives]

    async def wait_until_working(self) -> None:
        """Give the services time to find a broker that was away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_SECONDS):
                while not await self._has_taken_up_work():
                    await asyncio.sleep(0.5)

    async def _has_taken_up_work(self) -> bool:
        """Tell whether an API and a worker are ready; any of them may be away for another reason."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            ready = set()
            for slot in self.slots.values():
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"{slot.url}/ready")).status_code == 200:
                        ready.add(slot.service)
        return len(ready) == len(self.databases)

    async def wait_until_ready(self, within: float) -> list[str]:
        """Wait until every service says that it is ready; gives a sentence for each that does not."""
        waiting = (slot.wait_for("/ready", within) for slot in self.slots.values())
        found = await asyncio.gather(*waiting, return_exceptions=True)
        return [str(failure) for failure in found if failure is not None]


@asynccontextmanager
async def running_plant(
    directory: Path, initial_stock: Mapping[str, int], broker: Broker, *, use_postgres: bool = False
) -> AsyncIterator[Plant]:
    """Start every service on a port of its own, and end all of it with the context."""
    async with AsyncExitStack() as stack:
        databases = {
            ORDER_API: f"sqlite:///{directory}/orders.db",
            INVENTORY_WORKER: f"sqlite:///{directory}/inventory.db",
        }
        servers: dict[str, PrivatePostgres] = {}
        for service in SERVICES if use_postgres else ():
            # Not in a directory of root's: the server runs as nobody.
            beside = stack.enter_context(TemporaryDirectory(prefix="traced-orders-postgres-"))
            servers[service] = stack.enter_context(private_postgres(Path(beside)))
            databases[service] = stack.enter_context(servers[service].database())
            await _let_in(databases[service], service)
        collector = stack.enter_context(Collector())
        [backend] = stack.enter_context(running_wires([urlsplit(collector.url).port or 0]))
        plant = Plant(broker, collector, backend, databases, servers)
        for name in SLOTS:
            port = port_of(stack.enter_context(claim_port()))
            slot = Slot(name, port, _environment(plant, name, port, initial_stock), directory)
            plant.slots[name] = slot
            stack.push_async_callback(slot.end_quietly)
        await asyncio.gather(*(slot.start() for slot in plant.slots.values()))
        not_ready = await plant.wait_until_ready(within=60)
        assert not not_ready, not_ready
        yield plant


async def _let_in(url: str, service: str) -> None:
    """Make a role for each slot of a service, so that the server knows whose connection is whose."""
    connection = await connect(url)
    for slot in SLOTS:
        if _service_of(slot) == service:
            await connection.execute(f'CREATE ROLE "{slot_role(slot)}" SUPERUSER LOGIN')
    await connection.close()


def slot_role(slot: str) -> str:
    """Give the name that a slot has at its PostgreSQL."""
    return slot.replace(" ", "-")


def _service_of(slot: str) -> str:
    return slot.partition(" ")[0]


def _environment(plant: Plant, slot: str, port: int, initial_stock: Mapping[str, int]) -> dict[str, str]:
    service = _service_of(slot)
    own = service.replace("-", "_").upper()
    return plain_environment() | {
        f"{own}_PORT": str(port),
        "AMQP_URL": plant.broker.url_for(slot),
        "DATABASE_URL": plant.databases[service].replace("//orders@", f"//{slot_role(slot)}@"),
        "REPLY_TIMEOUT": str(REPLY_TIMEOUT),
        "INITIAL_STOCK": str(dict(initial_stock)).replace("'", '"'),
        "OPENOBSERVE_URL": f"http://{LOOPBACK}:{plant.backend.port}",
        "OPENOBSERVE_USER": "root@example.com",
        "OPENOBSERVE_PASSWORD": "Traced-orders-1",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
    }
