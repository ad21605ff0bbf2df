"""Both services as processes on a broker of the tests' own, with a meter beside them; of this version or of another one."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from shared.tools.local.rabbitmq_node import PrivateNode
from tests.resilience.meter import Meter
from tests.system import Api, Service, System, VirtualHost

INITIAL = 10_000_000


class Rig:
    """What a test of this room starts and looks at."""

    def __init__(self, system: System, host: VirtualHost, node: PrivateNode, sink_url: str) -> None:
        self.system = system
        self.host = host
        self.node = node
        self.meter = Meter(host, node)
        self.workers: list[Service] = []
        self.apis: list[Api] = []
        product = os.environ.get("PRODUCT")
        self._environment = {"OPENOBSERVE_URL": sink_url, **(code_of(Path(product)) if product else {})}

    @property
    def worker(self) -> Service:
        """The worker that was started last."""
        return self.workers[-1]

    @property
    def api(self) -> Api:
        """The order API that was started last."""
        return self.apis[-1]

    def launch_worker(self, **environment: str) -> Service:
        """Start a worker with enough stock for everybody, and wait for nothing."""
        stock = {"INITIAL_STOCK": f'{{"widget": {INITIAL}}}'}
        worker = self.system.start_worker(**{**self._environment, **stock, **environment})
        self.workers.append(worker)
        return worker

    def start_worker(self, **environment: str) -> Service:
        """Start a worker and wait until it is ready."""
        return self.launch_worker(**environment).wait_until_ready()

    def start_api(self, **environment: str) -> Api:
        """Start an order API and wait until it is ready."""
        api = self.system.start_api(**{**self._environment, **environment})
        self.apis.append(api)
        api.service.wait_until_ready()
        return api

    def orders_file(self) -> Path:
        """The SQLite file of the APIs."""
        return self.system.directory / "orders.db"

    def inventory_file(self) -> Path:
        """The SQLite file of the workers."""
        return self.system.directory / "inventory.db"


def code_of(checkout: Path) -> Mapping[str, str]:
    """Give the environment in which `python -m order_api` runs the code of another checkout, with the packages of this one."""
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(checkout)}


def cpu_seconds(service: Service) -> float:
    """Give the CPU time that a process has used so far, to the second."""
    shown = subprocess.run(
        ["ps", "-o", "time=", "-p", str(service.pid)], check=True, capture_output=True, text=True
    ).stdout.strip()
    days, _, clock = shown.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86400 * int(days or 0)
