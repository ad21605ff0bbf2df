"""Starts the processes of a stack, and ends them in the reverse order."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.tools.local.ports import LOOPBACK
from shared.tools.local.service_process import ServiceProcess

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Launcher:
    """Starts services that end in the reverse order, and waits for them all at once."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, environment: Mapping[str, str]) -> None:
        self._stack = stack
        self._directory = directory
        self._environment = environment
        self._starting: list[ServiceProcess] = []

    def services(self, name: str, ports: Sequence[int], database_url: str) -> list[ServiceProcess]:
        """Start instances of a service, one a port, that share a database; several have names of their own."""
        module, prefix = name.replace("-", "_"), name.replace("-", "_").upper()
        attributes = self._environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        started = []
        for number, port in enumerate(ports, 1):
            instance = name if len(ports) == 1 else f"{name}-{number}"
            environment = {f"{prefix}_HOST": LOOPBACK, f"{prefix}_PORT": str(port), "DATABASE_URL": database_url}
            if len(ports) > 1:
                environment["OTEL_RESOURCE_ATTRIBUTES"] = f"{attributes},service.instance.id={instance}".lstrip(",")
            started.append(self.start(instance, [module], port, "/ready", environment))
        return started

    def start(
        self, name: str, module: list[str], port: int, ready: str, environment: Mapping[str, str] | None = None
    ) -> ServiceProcess:
        """Start a process of ours."""
        service = ServiceProcess(
            name,
            module,
            url=f"http://{LOOPBACK}:{port}",
            ready=ready,
            env={**self._environment, **(environment or {})},
            log=self._directory / f"{name}.log",
        )
        service.start()
        self._stack.callback(service.end, grace=STOP_SECONDS)
        self._starting.append(service)
        return service

    def wait_until_ready(self) -> None:
        """Wait until each of them is ready."""
        deadline = time.monotonic() + START_SECONDS
        for service in self._starting:
            service.wait_until_ready(max(0.0, deadline - time.monotonic()))
