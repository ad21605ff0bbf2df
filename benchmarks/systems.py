"""The systems that are measured, each as real processes."""

import base64
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from benchmarks.processes import Process
from shared.tools.local.guarded_process import GuardedProcess
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.probe import status_of
from tests.waiting import eventually

START_SECONDS = 60.0
EXPORTERS_SECONDS = 6.0
"""The official one sends what it has every 5 s."""
LAST_SPANS_SECONDS = 300.0
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Running:
    """A system that runs: where to send orders, and the processes to measure."""

    urls: Sequence[str]
    apis: Sequence[Process]
    workers: Sequence[Process]

    @property
    def processes(self) -> Sequence[Process]:
        """Every process."""
        return (*self.apis, *self.workers)


@dataclass(frozen=True)
class Setting:
    """What every system is given."""

    amqp_url: str
    receiver_url: str
    user: str
    password: str
    directory: Path
    checkout: Path = CHECKOUT
    """Where the code of the product is taken from."""

    def within(self, name: str) -> "Setting":
        """Give the same with a new directory inside this one."""
        directory = self.directory / name.translate(str.maketrans(" '/%", "----"))
        directory.mkdir()
        return replace(self, directory=directory)

    def wait_for_last_spans(self) -> None:
        """Wait until nothing has come to the receiver for longer than an exporter collects spans at most."""
        ask = httpx.Client(timeout=120, trust_env=False)
        with ask:
            eventually(
                lambda: ask.get(f"{self.receiver_url}/quiet").json() > EXPORTERS_SECONDS,
                within=LAST_SPANS_SECONDS,
                what="the last spans",
            )

    def empty_receiver(self) -> None:
        """Have the receiver decode and forget what it has: between the turns, so that it does not do so in one."""
        httpx.get(f"{self.receiver_url}/summary", timeout=120, trust_env=False)


def code_of(checkout: Path) -> dict[str, str]:
    """Give the environment in which `python -m` runs the code of a checkout, with the packages of this environment."""
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(checkout.resolve(strict=True))}


System = Callable[..., AbstractContextManager[Running]]


@contextmanager
def product(
    setting: Setting,
    *,
    apis: int = 1,
    workers: int = 1,
    databases: Mapping[str, str] | None = None,
    **environment: str,
) -> Iterator[Running]:
    """This system at its default settings; `databases` has the URLs of `orders` and `inventory`, else SQLite files."""
    common = {
        "AMQP_URL": setting.amqp_url,
        "OPENOBSERVE_URL": setting.receiver_url,
        "OPENOBSERVE_USER": setting.user,
        "OPENOBSERVE_PASSWORD": setting.password,
        "INITIAL_STOCK": '{"widget": 1000000000}',
        "LOG_LEVEL": "WARNING",
        **code_of(setting.checkout),
        **environment,
    }
    chosen = databases or {name: f"sqlite:///{setting.directory}/{name}.db" for name in ("orders", "inventory")}
    with ExitStack() as stack:

        def start(count: int, module: str, database: str) -> tuple[list[Process], list[str]]:
            ports = [port_of(stack.enter_context(claim_port())) for _ in range(count)]
            started = [
                _start(
                    stack,
                    setting,
                    module,
                    {**common, f"{module.upper()}_PORT": str(port), "DATABASE_URL": chosen[database]},
                )
                for port in ports
            ]
            return started, [f"http://{LOOPBACK}:{port}" for port in ports]

        running_workers, worker_urls = start(workers, "inventory_worker", "inventory")
        running_apis, urls = start(apis, "order_api", "orders")
        for url in (*worker_urls, *urls):
            _wait_until_ready(url, [*running_workers, *running_apis])
        yield _serving(urls, running_apis, running_workers)


@contextmanager
def rpc(setting: Setting, **environment: str) -> Iterator[Running]:
    """FastAPI and aio-pika's RPC pattern."""
    common = {"AMQP_URL": setting.amqp_url, **_otlp(setting), **environment}
    with ExitStack() as stack:
        port = port_of(stack.enter_context(claim_port()))
        worker = _start(stack, setting, "benchmarks.baselines.rpc_worker", common)
        api = _start(stack, setting, "benchmarks.baselines.rpc_api", {**common, "PORT": str(port)})
        yield _serving([f"http://{LOOPBACK}:{port}"], [api], [worker])


@contextmanager
def floor(setting: Setting, **environment: str) -> Iterator[Running]:
    """Every promise and every span on bare libraries, and nothing else."""
    stock = {"INITIAL_STOCK": '{"widget": 1000000000}'}
    common = {"AMQP_URL": setting.amqp_url, **_otlp(setting), **stock, **environment}
    with ExitStack() as stack:
        port = port_of(stack.enter_context(claim_port()))
        started = [
            _start(stack, setting, f"benchmarks.baselines.floor.{name}", {**common, "DATABASE_FILE": file, **more})
            for name, file, more in (
                ("worker", f"{setting.directory}/inventory.db", {}),
                ("api", f"{setting.directory}/orders.db", {"PORT": str(port)}),
            )
        ]
        yield _serving([f"http://{LOOPBACK}:{port}"], started[1:], started[:1])


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
        yield _serving([f"http://{LOOPBACK}:{port}"], [order], [inventory])


@contextmanager
def receiver(directory: Path, delay: float = 0.0) -> Iterator[str]:
    """Run a receiver that takes `delay` seconds an answer, and give its URL."""
    with ExitStack() as stack:
        port = port_of(stack.enter_context(claim_port()))
        url = f"http://{LOOPBACK}:{port}"
        environment = {**os.environ, **code_of(CHECKOUT), "PORT": str(port), "RECEIVER_DELAY": str(delay)}
        command = [sys.executable, "-m", "benchmarks.receiver"]
        process = GuardedProcess(command, env=environment, log=directory / "receiver.log")
        stack.callback(process.end, grace=2)
        eventually(lambda: status_of(f"{url}/summary") == 200, within=START_SECONDS, what="the receiver")
        yield url


def seconds_to_ready(setting: Setting) -> dict[str, float]:
    """Start the order API and the inventory worker, one after the other, and time each until it is ready."""
    found = {}
    for module in ("order_api", "inventory_worker"):
        with ExitStack() as stack:
            port = port_of(stack.enter_context(claim_port()))
            environment = {
                "AMQP_URL": setting.amqp_url,
                "OPENOBSERVE_URL": setting.receiver_url,
                **code_of(setting.checkout),
                "DATABASE_URL": f"sqlite:///{setting.directory}/{module}.db",
                f"{module.upper()}_PORT": str(port),
            }
            began = time.perf_counter()
            process = _start(stack, setting, module, environment)
            _wait_until_ready(f"http://{LOOPBACK}:{port}", [process])
            found[module] = time.perf_counter() - began
    return found


def _start(stack: ExitStack, setting: Setting, module: str, environment: Mapping[str, str]) -> Process:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENOBSERVE_"))}
    log = setting.directory / f"{module}.log"
    handle = GuardedProcess([sys.executable, "-m", module], env={**plain, **code_of(CHECKOUT), **environment}, log=log)
    stack.callback(handle.end, grace=20)
    return Process(handle.pid, log)


def _serving(urls: Sequence[str], apis: Sequence[Process], workers: Sequence[Process]) -> Running:
    for url in urls:
        _until(lambda url=url: _serves(url), f"orders at {url}", [*apis, *workers])  # type: ignore[misc]
    return Running(urls, apis, workers)


def _wait_until_ready(url: str, processes: Sequence[Process]) -> None:
    _until(lambda: status_of(f"{url}/ready") == 200, f"{url}/ready", processes)


def _until(probe: Callable[[], bool], what: str, processes: Sequence[Process]) -> None:
    """Wait until a probe succeeds; raises RuntimeError as soon as one of the processes has ended instead."""

    def look() -> bool:
        for process in processes:
            if process.has_ended:
                raise RuntimeError(f"a process has ended before {what} was there:\n{process.last_words()}")
        return probe()

    eventually(look, within=START_SECONDS, what=what)


def _serves(url: str) -> bool:
    try:
        answer = httpx.post(f"{url}/orders/create", params={"order_id": f"W-{os.urandom(6).hex()}"}, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def _otlp(setting: Setting) -> dict[str, str]:
    login = base64.b64encode(f"{setting.user}:{setting.password}".encode()).decode()
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{setting.receiver_url}/api/default",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Basic%20{login}",
    }
