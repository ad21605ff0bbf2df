"""The systems that are measured, each as real processes, and what the operating system says of them."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.local.guarded_process import GuardedProcess
from shared.local.ports import LOOPBACK, claim_port, port_of
from tests.waiting import eventually

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process that is measured."""

    name: str
    handle: GuardedProcess

    def cpu_seconds(self) -> float:
        """CPU time so far, of all its threads."""
        fields = Path(f"/proc/{self.handle.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mb(self) -> float:
        """Peak resident memory."""
        status = Path(f"/proc/{self.handle.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@dataclass(frozen=True)
class Running:
    """A system that runs: where to send orders, and the processes to measure."""

    url: str
    processes: tuple[Process, Process]


@dataclass(frozen=True)
class Setting:
    """What every system is given."""

    amqp_url: str
    receiver_url: str
    user: str
    password: str
    directory: Path


@contextmanager
def product(setting: Setting, **environment: str) -> Iterator[Running]:
    """This system at its default settings."""
    common = {
        "AMQP_URL": setting.amqp_url,
        "OPENOBSERVE_URL": setting.receiver_url,
        "OPENOBSERVE_USER": setting.user,
        "OPENOBSERVE_PASSWORD": setting.password,
        "INITIAL_STOCK": '{"widget": 1000000000}',
        **environment,
    }
    with ExitStack() as stack:
        api_port, worker_port = (port_of(stack.enter_context(claim_port())) for _ in range(2))
        worker = _start(
            stack,
            setting,
            "inventory_worker",
            {**common, "INVENTORY_WORKER_PORT": str(worker_port), "DATABASE_URL": _sqlite(setting, "inventory")},
        )
        api = _start(
            stack,
            setting,
            "order_api",
            {**common, "ORDER_API_PORT": str(api_port), "DATABASE_URL": _sqlite(setting, "orders")},
        )
        yield _ready(api, worker, api_port)


@contextmanager
def rpc(setting: Setting, **environment: str) -> Iterator[Running]:
    """FastAPI and aio-pika's RPC pattern."""
    common = {"AMQP_URL": setting.amqp_url, **_otlp(setting), **environment}
    with ExitStack() as stack:
        port = port_of(stack.enter_context(claim_port()))
        worker = _start(stack, setting, "benchmarks.baselines.rpc_worker", common)
        api = _start(stack, setting, "benchmarks.baselines.rpc_api", {**common, "PORT": str(port)})
        yield _ready(api, worker, port)


@contextmanager
def tutorial(setting: Setting, **environment: str) -> Iterator[Running]:
    """Two HTTP services, as in the tutorial."""
    common = {**_otlp(setting), **environment}
    with ExitStack() as stack:
        port, inventory_port = (port_of(stack.enter_context(claim_port())) for _ in range(2))
        inventory = _start(
            stack, setting, "benchmarks.baselines.tutorial_inventory", {**common, "PORT": str(inventory_port)}
        )
        order_environment = {**common, "PORT": str(port), "INVENTORY_URL": f"http://{LOOPBACK}:{inventory_port}"}
        order = _start(stack, setting, "benchmarks.baselines.tutorial_order", order_environment)
        yield _ready(order, inventory, port)


def _start(stack: ExitStack, setting: Setting, module: str, environment: Mapping[str, str]) -> Process:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENOBSERVE_"))}
    log = setting.directory / f"{module}.log"
    handle = GuardedProcess([sys.executable, "-m", module], env={**plain, **environment}, log=log)
    stack.callback(handle.end, grace=20)
    return Process(module.rpartition(".")[2], handle)


def _ready(api: Process, worker: Process, port: int) -> Running:
    url = f"http://{LOOPBACK}:{port}"

    def serves() -> bool:
        try:
            answer = httpx.post(
                f"{url}/orders/create", params={"order_id": f"W-{os.urandom(6).hex()}"}, trust_env=False
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    eventually(serves, within=30, what=f"{api.name} at {url}")
    return Running(url, (api, worker))


def _sqlite(setting: Setting, name: str) -> str:
    return f"sqlite:///{setting.directory}/{name}.db"


def _otlp(setting: Setting) -> dict[str, str]:
    import base64

    login = base64.b64encode(f"{setting.user}:{setting.password}".encode()).decode()
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{setting.receiver_url}/api/default",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Basic%20{login}",
    }
