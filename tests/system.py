"""The system under test: both services as real processes, on a virtual host of a real broker, seen by a real receiver."""

import os
import secrets
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import urlsplit

import httpx
from sqlalchemy import create_engine

from inventory_worker import stock_table
from order_api import order_table
from shared.storage.migrations import Migrations
from shared.tools.local.guarded_process import GuardedProcess
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.probe import status_of
from tests.environment import plain_environment
from tests.receiver import Receiver
from tests.waiting import eventually


@dataclass(frozen=True)
class TestBroker:
    """A real broker and its management interface, where guest may do everything."""

    __test__ = False

    amqp_url: str
    management_url: str

    @contextmanager
    def virtual_host(self) -> Iterator["VirtualHost"]:
        """Make a virtual host, so that one test's queues are no other's, and delete it with all that is in it."""
        name = f"test-{secrets.token_hex(4)}"
        api = httpx.Client(base_url=f"{self.management_url}/api", auth=("guest", "guest"), timeout=30, trust_env=False)
        with api:
            api.put(f"/vhosts/{name}").raise_for_status()
            try:
                yield VirtualHost(f"{self.amqp_url.rstrip('/')}/{name}", name, api)
            finally:
                api.delete(f"/vhosts/{name}").raise_for_status()


@dataclass(frozen=True)
class VirtualHost:
    """A virtual host of the test broker."""

    amqp_url: str
    name: str
    api: httpx.Client

    def queues(self) -> dict[str, int]:
        """Give the queues and the messages in each, ready and unsettled."""
        found = self.api.get(f"/queues/{self.name}").raise_for_status().json()
        return {queue["name"]: queue.get("messages", 0) for queue in found}


class Service:
    """A service as a process of its own."""

    def __init__(self, module: str, port: int, environment: Mapping[str, str], log: Path) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.log_file = log
        self._process = GuardedProcess([sys.executable, "-m", module], env=environment, log=log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        return self._process.exit_status

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text()

    def is_ready(self) -> bool:
        """Ask the service itself."""
        assert self.exit_status is None, f"it has ended:\n{self.log}"
        return status_of(f"{self.url}/ready") == 200

    def wait_until_ready(self) -> Self:
        """Wait until it is ready."""
        eventually(self.is_ready, within=90, what=f"{self.url}/ready")
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it at once, with no chance to clean up."""
        self._process.end(grace=0)

    def end(self, grace: float = 30.0) -> int | None:
        """Ask it to end, and give its exit status."""
        self._process.end(grace=grace)
        return self.exit_status

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop it as an overloaded machine would, and let it go on."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


class System:
    """Services that share a broker and a receiver; every process that is started here is ended here."""

    def __init__(self, amqp_url: str, receiver: Receiver, directory: Path, stack: ExitStack) -> None:
        self.receiver = receiver
        self.directory = directory
        self._stack = stack
        self._environment = {
            **plain_environment(),
            "AMQP_URL": amqp_url,
            "OPENOBSERVE_URL": receiver.url,
            "OPENOBSERVE_USER": "root@example.com",
            "OPENOBSERVE_PASSWORD": "Traced-orders-1",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def start_api(self, **environment: str) -> "Api":
        """Start an order API with these environment variables on top of the usual ones."""
        self._put_schema("orders.db", order_table.MIGRATIONS)
        service = self.start("order_api", "ORDER_API_PORT", "orders.db", environment)
        return Api(service, self._stack.enter_context(httpx.Client(base_url=service.url, timeout=60, trust_env=False)))

    def start_worker(self, **environment: str) -> Service:
        """Start an inventory worker with these environment variables on top of the usual ones."""
        self._put_schema("inventory.db", stock_table.MIGRATIONS)
        return self.start("inventory_worker", "INVENTORY_WORKER_PORT", "inventory.db", environment)

    def start(self, module: str, port_name: str, database: str, environment: Mapping[str, str]) -> Service:
        """Start a service by its module, on a port of its own and a SQLite file of that name."""
        claim = self._stack.enter_context(claim_port())
        port = port_of(claim)
        service = Service(
            module,
            port,
            {
                **self._environment,
                "DATABASE_URL": f"sqlite:///{self.directory}/{database}",
                port_name: str(port),
                **environment,
            },
            self.directory / f"{module}-{port}.log",
        )
        self._stack.callback(service.end)
        return service

    def _put_schema(self, database: str, migrations: Migrations) -> None:
        """Put the file there as a first start leaves it: to bring one to its schema takes a sixth of a start."""
        file = self.directory / database
        if not file.exists():
            file.write_bytes(_empty_database(migrations))


@cache
def _empty_database(migrations: Migrations) -> bytes:
    with TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{directory}/empty.db")
        with engine.begin() as connection:
            migrations.run(connection)
        engine.dispose()
        return Path(directory, "empty.db").read_bytes()


@dataclass(frozen=True)
class Api:
    """An order API and a client for it."""

    service: Service
    http: httpx.Client

    def submit(self, items: Mapping[str, int], order_id: str | None = None, **headers: str) -> httpx.Response:
        """Place an order."""
        return self.http.post("/orders", json=order_body(items, order_id), headers=headers)

    def read(self, order_id: str) -> dict[str, object]:
        """Read an order."""
        body: dict[str, object] = self.http.get(f"/orders/{order_id}").raise_for_status().json()
        return body

    def wait_for_outcome(self, order_id: str, within: float = 30.0) -> dict[str, object]:
        """Wait until an order is decided, and give it."""

        def decided() -> dict[str, object] | None:
            order = self.read(order_id)
            return order if order["status"] != "pending" else None

        found = eventually(decided, within=within, what=f"an outcome of {order_id}")
        assert found is not None
        return found


def order_body(items: Mapping[str, int], order_id: str | None = None) -> dict[str, object]:
    """Write the body that places an order."""
    body: dict[str, object] = {"items": [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]}
    return body if order_id is None else {**body, "order_id": order_id}


def stock_levels(worker: Service) -> dict[str, int]:
    """Read the stock from a worker."""
    found = httpx.get(f"{worker.url}/inventory", timeout=30, trust_env=False).raise_for_status().json()
    return {level["sku"]: level["available"] for level in found}


def new_id(prefix: str = "T") -> str:
    """Make an order id that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@contextmanager
def running_system(amqp_url: str, directory: Path) -> Iterator[System]:
    """Give a system without services yet; what is started in it ends with the context."""
    with Receiver() as receiver, ExitStack() as stack:
        yield System(amqp_url, receiver, directory, stack)


def management_of(amqp_url: str, management_port: int) -> str:
    """Give the address of the management interface beside an AMQP URL."""
    return f"http://{urlsplit(amqp_url).hostname}:{management_port}"
