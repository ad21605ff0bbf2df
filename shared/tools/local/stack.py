"""Everything on this machine from nothing: a broker, a receiver for traces, both services, and their orderly end."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from shared.service.telemetry_settings import TelemetrySettings
from shared.tools.defaults import LOCAL_PASSWORD, LOCAL_USER
from shared.tools.local.launcher import Launcher
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.postgres import PrivatePostgres, find_postgres, private_postgres
from shared.tools.local.rabbitmq import ObtainedBroker, obtain_broker
from shared.tools.local.service_process import ServiceProcess, StackError
from shared.tools.local.surroundings import has_backend, passed_over
from shared.tools.openobserve.reader import open_reader
from shared.tools.traces.readback import Reader

__all__ = ["Say", "Stack", "StackError", "running_stack"]


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where; of each service the first instance is the one for who needs only one."""

    apis: Sequence[ServiceProcess]
    workers: Sequence[ServiceProcess]
    traces_url: str | None
    """Where traces can be read back; None where they go to a Collector that nobody has named a backend of."""
    endpoint: str
    """Where the services send their telemetry."""
    is_embedded: bool
    """Whether the traces go to the embedded receiver rather than to a backend that was given."""
    broker: ObtainedBroker
    environment: Mapping[str, str]
    started_at: datetime
    logs: Path
    worker_database: Path
    """The SQLite file of the worker, for who wants to get in its way."""

    @property
    def api(self) -> ServiceProcess:
        """The first order API."""
        return self.apis[0]

    @property
    def worker(self) -> ServiceProcess:
        """The first inventory worker."""
        return self.workers[0]

    @property
    def api_key(self) -> str | None:
        """The key that the order APIs ask for, where they ask for one."""
        return self.environment.get("ORDER_API_KEY") or None

    @property
    def telemetry(self) -> TelemetrySettings:
        """Where the services send their telemetry."""
        return TelemetrySettings.model_validate(
            {name.lower(): value for name, value in self.environment.items() if name.startswith("OPENOBSERVE_")}
        )

    def open_reader(self) -> Reader:
        """Open a reader of what the services have sent; raises ReadbackError."""
        if self.traces_url is None:
            raise StackError(f"{self.endpoint} gives no traces back.")
        return open_reader(self.traces_url, self.telemetry, self.started_at)

    def run_until_one_ends(self) -> NoReturn:
        """Wait for as long as every service runs; raises StackError when one has ended by itself."""
        while True:
            for service in (*self.apis, *self.workers):
                service.require_running()
            time.sleep(0.2)


@contextlib.contextmanager
def running_stack(
    say: Say, *, usual_ports: bool, overrides: Mapping[str, str] | None = None, apis: int = 1, workers: int = 1
) -> Iterator[Stack]:
    """Run everything while the context lasts; raises StackError, BrokerError or PostgresError.

    `usual_ports` takes 8000, 8001 and 5080, and for a private broker 5672 and 15672, where they are free; instances beyond
    the first take the ports from 8010 and 8100 on. AMQP_URL and OPENOBSERVE_URL name a broker and a backend to use instead
    of new ones. `overrides` are environment variables for all services. Several instances of a service share a PostgreSQL
    where this machine has its server, else a SQLite file.
    """
    with contextlib.ExitStack() as stack:

        def free_port(usual: int) -> int:
            return port_of(stack.enter_context(claim_port(usual if usual_ports else None)))

        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="traced-orders-")))
        api_ports = [free_port(8009 + number if number else 8000) for number in range(apis)]
        worker_ports = [free_port(8099 + number if number else 8001) for number in range(workers)]
        traces_port = free_port(5080)
        broker = stack.enter_context(obtain_broker(os.environ.get("AMQP_URL"), say=say, usual_ports=usual_ports))
        surroundings = stack.enter_context(passed_over(say))
        environment = {"RABBITMQ_MANAGEMENT_URL": broker.management_url or "", **surroundings, **(overrides or {})}
        environment |= {"AMQP_URL": broker.amqp_url, "PYTHONUNBUFFERED": "1"}
        is_embedded = not has_backend(environment)
        launch = Launcher(stack, directory, environment)
        if is_embedded:
            environment |= {
                "OPENOBSERVE_URL": f"http://{LOOPBACK}:{traces_port}",
                "OPENOBSERVE_ORG": "default",
                "OPENOBSERVE_USER": LOCAL_USER,
                "OPENOBSERVE_PASSWORD": LOCAL_PASSWORD,
            }
            say("starting the receiver for traces ...")
            to_api = ["--order-api-url", f"http://{LOOPBACK}:{api_ports[0]}"]
            launch.start(
                "receiver", ["shared.tools.receiver", "--port", str(traces_port), *to_api], traces_port, "/healthz"
            )
        databases = _Databases(stack, directory, say, is_shared=apis > 1 or workers > 1)
        say(f"starting {_counted(apis, 'order API')} and {_counted(workers, 'inventory worker')} ...")
        running = Stack(
            workers=launch.services("inventory-worker", worker_ports, databases.url("inventory")),
            apis=launch.services("order-api", api_ports, databases.url("orders")),
            traces_url=environment.get("OPENOBSERVE_URL"),
            endpoint=environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environment["OPENOBSERVE_URL"],
            started_at=datetime.now(UTC),
            is_embedded=is_embedded,
            broker=broker,
            environment=environment,
            logs=directory,
            worker_database=directory / "inventory.db",
        )
        launch.wait_until_ready()
        yield running


def _counted(number: int, what: str) -> str:
    return f"the {what}" if number == 1 else f"{number} {what}s"


class _Databases:
    """A database for each service: SQLite files, or a PostgreSQL where instances share one and the machine has it."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, say: Say, *, is_shared: bool) -> None:
        self._stack = stack
        self._directory = directory
        self._server: PrivatePostgres | None = None
        if is_shared and find_postgres() is not None:
            say("starting a private PostgreSQL ...")
            # Not in `directory`: the server runs as another user where this one is root.
            own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="traced-orders-postgres-")))
            self._server = stack.enter_context(private_postgres(own))
        elif is_shared:
            say(
                "there is no PostgreSQL server here: the instances share SQLite files, and wait for each other to write"
            )

    def url(self, name: str) -> str:
        if self._server is None:
            return f"sqlite:///{self._directory}/{name}.db"
        return self._stack.enter_context(self._server.database())
