"""Everything on this machine from nothing: a broker, a receiver for traces, both services, and their orderly end."""

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.local.guarded_process import GuardedProcess
from shared.local.ports import LOOPBACK, claim_port, port_of
from shared.local.rabbitmq import Broker, obtain_broker

START_SECONDS = 30.0
STOP_SECONDS = 20.0
LOCAL_USER, LOCAL_PASSWORD = "root@example.com", "Traced-orders-1"

Say = Callable[[str], None]


class StackError(Exception):
    """Something did not start; the message is one sentence for the person who started it."""


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
    api: GuardedProcess
    worker: GuardedProcess


@contextlib.contextmanager
def running_stack(say: Say, *, usual_ports: bool, overrides: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Run everything while the context lasts; raises StackError or BrokerError.

    `usual_ports` takes 8000, 8001 and 5080 where they are free. AMQP_URL and OPENOBSERVE_URL name a broker and a backend to
    use instead of new ones. `overrides` are environment variables for both services.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="traced-orders-")))
        ports = [stack.enter_context(_port(port if usual_ports else None)) for port in (8000, 8001, 5080)]
        broker = stack.enter_context(obtain_broker(os.environ.get("AMQP_URL"), say=say))
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
        worker = launch(
            "inventory-worker",
            ["inventory_worker"],
            f"http://{LOOPBACK}:{ports[1]}/ready",
            {
                "INVENTORY_WORKER_HOST": LOOPBACK,
                "INVENTORY_WORKER_PORT": str(ports[1]),
                "DATABASE_URL": f"sqlite:///{directory}/inventory.db",
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
        )


class _Launcher:
    """Starts processes that end in the reverse order, and waits for them all at once."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, environment: Mapping[str, str]) -> None:
        self._stack = stack
        self._directory = directory
        self._environment = environment
        self._starting: dict[str, tuple[GuardedProcess, str]] = {}

    def __call__(
        self, name: str, module: list[str], ready_url: str, environment: Mapping[str, str] | None = None
    ) -> GuardedProcess:
        process = GuardedProcess(
            [sys.executable, "-m", *module],
            env={**self._environment, **(environment or {})},
            log=self._directory / f"{name}.log",
        )
        self._stack.callback(process.end, grace=STOP_SECONDS)
        self._starting[name] = process, ready_url
        return process

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for name, (process, url) in self._starting.items():
            while not _is_ready(url):
                if process.exit_status is not None:
                    raise StackError(f"The {name} ended while it was starting: {self._last_line(name)}")
                if time.monotonic() > deadline:
                    raise StackError(f"The {name} is not ready after {START_SECONDS:.0f} s: {self._last_line(name)}")
                time.sleep(0.05)

    def _last_line(self, name: str) -> str:
        lines = (self._directory / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1][:500] if lines else "it said nothing"


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _port(usual: int | None) -> Iterator[int]:
    """Give the usual port where it is free, else one that no other process of ours takes meanwhile."""
    if usual is not None and _is_free(usual):
        yield usual
        return
    with claim_port() as claim:
        yield port_of(claim)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
