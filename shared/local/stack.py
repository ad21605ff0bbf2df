"""Everything on this machine from nothing: a broker, a receiver for traces, both services, and their orderly end."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.local.ports import LOOPBACK, claim_port, port_of
from shared.local.rabbitmq import Broker, obtain_broker
from shared.local.service_process import ServiceProcess, StackError
from shared.telemetry.setup import TelemetrySettings

__all__ = ["LOCAL_PASSWORD", "LOCAL_USER", "START_SECONDS", "Say", "Stack", "StackError", "running_stack"]

START_SECONDS = 30.0
STOP_SECONDS = 20.0
LOCAL_USER, LOCAL_PASSWORD = "root@example.com", "Traced-orders-1"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where."""

    api_url: str
    worker_url: str
    traces_url: str
    is_embedded: bool
    """Whether the traces go to the embedded receiver rather than to a backend that was given."""
    broker: Broker
    environment: Mapping[str, str]
    logs: Path
    api: ServiceProcess
    worker: ServiceProcess
    worker_database: Path
    """The SQLite file of the worker, for who wants to get in its way."""

    @property
    def telemetry(self) -> TelemetrySettings:
        """Where the services send their telemetry."""
        return TelemetrySettings.model_validate(
            {name.lower(): value for name, value in self.environment.items() if name.startswith("OPENOBSERVE_")}
        )


@contextlib.contextmanager
def running_stack(say: Say, *, usual_ports: bool, overrides: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Run everything while the context lasts; raises StackError or BrokerError.

    `usual_ports` takes 8000, 8001 and 5080, and for a private broker 5672 and 15672, where they are free. AMQP_URL and
    OPENOBSERVE_URL name a broker and a backend to use instead of new ones. `overrides` are environment variables for both
    services.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="traced-orders-")))
        claims = [stack.enter_context(claim_port(port if usual_ports else None)) for port in (8000, 8001, 5080)]
        ports = [port_of(claim) for claim in claims]
        broker = stack.enter_context(obtain_broker(os.environ.get("AMQP_URL"), say=say, usual_ports=usual_ports))
        environment = {**os.environ, **(overrides or {}), "AMQP_URL": broker.amqp_url, "PYTHONUNBUFFERED": "1"}
        is_embedded = not environment.get("OPENOBSERVE_URL") and not environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        launch = _Launcher(stack, directory, environment)
        if is_embedded:
            environment |= {
                "OPENOBSERVE_URL": f"http://{LOOPBACK}:{ports[2]}",
                "OPENOBSERVE_ORG": "default",
                "OPENOBSERVE_USER": LOCAL_USER,
                "OPENOBSERVE_PASSWORD": LOCAL_PASSWORD,
            }
            say("starting the receiver for traces ...")
            launch(
                "receiver",
                [
                    "shared.local.trace_sink",
                    "--port",
                    str(ports[2]),
                    "--order-api-url",
                    f"http://{LOOPBACK}:{ports[0]}",
                ],
                f"http://{LOOPBACK}:{ports[2]}/healthz",
            )
        say("starting the order API and the inventory worker ...")
        worker_database = directory / "inventory.db"
        worker = launch(
            "inventory-worker",
            ["inventory_worker"],
            f"http://{LOOPBACK}:{ports[1]}/ready",
            {
                "INVENTORY_WORKER_HOST": LOOPBACK,
                "INVENTORY_WORKER_PORT": str(ports[1]),
                "DATABASE_URL": f"sqlite:///{worker_database}",
            },
        )
        api = launch(
            "order-api",
            ["order_api"],
            f"http://{LOOPBACK}:{ports[0]}/ready",
            {
                "ORDER_API_HOST": LOOPBACK,
                "ORDER_API_PORT": str(ports[0]),
                "DATABASE_URL": f"sqlite:///{directory}/orders.db",
            },
        )
        launch.wait_until_ready()
        yield Stack(
            api_url=f"http://{LOOPBACK}:{ports[0]}",
            worker_url=f"http://{LOOPBACK}:{ports[1]}",
            traces_url=environment.get("OPENOBSERVE_URL") or environment["OTEL_EXPORTER_OTLP_ENDPOINT"],
            is_embedded=is_embedded,
            broker=broker,
            environment=environment,
            logs=directory,
            api=api,
            worker=worker,
            worker_database=worker_database,
        )


class _Launcher:
    """Starts services that end in the reverse order, and waits for them all at once."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, environment: Mapping[str, str]) -> None:
        self._stack = stack
        self._directory = directory
        self._environment = environment
        self._starting: list[ServiceProcess] = []

    def __call__(
        self, name: str, module: list[str], ready_url: str, environment: Mapping[str, str] | None = None
    ) -> ServiceProcess:
        service = ServiceProcess(
            name,
            module,
            ready_url=ready_url,
            env={**self._environment, **(environment or {})},
            log=self._directory / f"{name}.log",
        )
        service.start()
        self._stack.callback(service.end, grace=STOP_SECONDS)
        self._starting.append(service)
        return service

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for service in self._starting:
            service.wait_until_ready(max(0.0, deadline - time.monotonic()))
