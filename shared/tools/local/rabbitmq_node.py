"""A RabbitMQ node of our own: free ports on loopback, all files in a temporary directory, and gone without a trace."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.tools.local.guarded_process import GuardedProcess
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.rabbitmq_config import Cluster, NodeConfig, Ports
from shared.tools.local.rabbitmq_server import BrokerError, Server, accepts, find_server, speaks_amqp


class PrivateNode:
    """A RabbitMQ node that belongs to this process alone; a context manager, or `start` and `stop`.

    `root` takes the server of another Debian tree, through chroot (as root only). `config` adds lines to rabbitmq.conf.
    The user is guest with the password guest. The `name` of a cluster's member is one of the cluster's names. `usual_ports`
    takes 5672 and 15672 where they are free.
    """

    def __init__(
        self,
        *,
        server: Server | None = None,
        root: Path | None = None,
        management: bool = True,
        config: Mapping[str, str] | None = None,
        name: str = "orders",
        cluster: Cluster | None = None,
        usual_ports: bool = False,
    ) -> None:
        found = server or find_server(root or Path("/"))
        if found is None:
            raise BrokerError(f"There is no RabbitMQ server in {root or 'the usual places'}.")
        self.server = found
        self._usual_ports = (5672, 15672) if usual_ports else (None, None)
        self._config = NodeConfig(name, management, dict(config or {}), cluster)
        self._held = contextlib.ExitStack()  # the directory and the claims on the ports, for as long as it is started
        self._directory: Path | None = None
        self._ports: Ports | None = None
        self._log_start = 0
        self._epmd: GuardedProcess | None = None
        self._beam: GuardedProcess | None = None

    @property
    def amqp_url(self) -> str:
        """The URL for clients; it stays the same over `kill` and `restart`."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.ports.amqp}/"

    @property
    def management_url(self) -> str | None:
        """The management page and API, or None where the plugin is off."""
        return f"http://{LOOPBACK}:{self.ports.management}" if self._config.management else None

    @property
    def ports(self) -> Ports:
        """The node's ports, which are nobody else's until `stop`."""
        if self._ports is None:
            raise BrokerError("This RabbitMQ node is not started.")
        return self._ports

    @property
    def directory(self) -> Path:
        """Where everything of this node lies until `stop` removes it."""
        if self._directory is None:
            raise BrokerError("This RabbitMQ node is not started.")
        return self._directory

    @property
    def log(self) -> Path:
        """The file with all that the node said, on every start."""
        return self.directory / "node.log"

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run for this node now: the Erlang machine, and epmd where the node has its own."""
        return tuple(process.pid for process in (self._beam, self._epmd) if process and process.exit_status is None)

    def start(self, timeout: float = 120.0) -> None:
        """Start the node and wait until it speaks AMQP (seconds).

        Raises BrokerError with what the log says, at once when the node dies; nothing of it is left then.
        """
        if self._directory is not None:
            raise BrokerError("This RabbitMQ node is started already.")
        directory = tempfile.mkdtemp(prefix="traced-orders-rabbitmq-", dir=self.server.temporary)
        self._directory = Path(directory).resolve()
        self._held.callback(shutil.rmtree, self._directory, ignore_errors=True)
        try:
            amqp, management, distribution, epmd = (
                port_of(self._held.enter_context(claim_port(usual))) for usual in (*self._usual_ports, None, None)
            )
            cluster = self._config.cluster
            self._ports = Ports(amqp, management, distribution, epmd=cluster.epmd_port if cluster else epmd)
            self._config.write(self._directory, self._ports)
            self._run(timeout)
        except BaseException:
            self.stop(grace=0)
            raise

    def stop(self, grace: float = 10.0) -> None:
        """End the node, with SIGKILL after `grace` seconds, and its epmd; remove its files. Twice does no harm."""
        self._end_beam(grace)
        if self._epmd:
            self._epmd.end(grace=0)
            self._epmd = None
        self._held.close()
        self._directory = self._ports = None

    def kill(self) -> None:
        """Crash the node with SIGKILL and keep its files, for `restart`.

        On RabbitMQ 3.10 a quorum queue that was declared less than half a second ago does not survive that.
        """
        self._end_beam(grace=0)

    def restart(self, timeout: float = 120.0, grace: float = 10.0) -> None:
        """Start the node again on the same ports and files, after ending it as `stop` does where it still runs."""
        self._end_beam(grace)
        self._run(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(grace=0)  # its files go anyway: nothing is gained by the seconds that a clean end takes

    def _run(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        ports = self.ports
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        if self._config.cluster is None and (self._epmd is None or self._epmd.exit_status is not None):
            # Ours, in the foreground: else the node starts a daemon that outlives it.
            self._epmd = self._spawn("epmd", "-port", str(ports.epmd), "-address", LOOPBACK)
            self._wait(self._epmd, "epmd", lambda: accepts(LOOPBACK, ports.epmd), deadline)
        self._beam = self._spawn(self.server.inside(self.server.script))
        self._wait(self._beam, f"RabbitMQ {self.server.version}", self._is_ready, deadline)

    def _spawn(self, *words: str) -> GuardedProcess:
        command = self.server.command(*words)
        environment = self._config.environment(self.server, self.directory, self.ports)
        try:
            return GuardedProcess(command, env=environment, log=self.log, scratch=self.directory)
        except OSError as error:
            raise BrokerError(f"RabbitMQ {self.server.version} needs {command[0]}: {error.strerror}.") from error

    def _wait(self, process: GuardedProcess, what: str, is_ready: Callable[[], bool], deadline: float) -> None:
        while not is_ready():
            status = process.exit_status
            if status is not None or time.monotonic() > deadline:
                why = "did not get ready in time" if status is None else f"ended with status {status} while it started"
                raise BrokerError("\n".join([f"{what} {why}:", *self._explanation()]))
            time.sleep(0.05)

    def _explanation(self) -> list[str]:
        """Pick from the log of this start the first errors, which say the cause (dumps follow), or else its end."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_start)
            lines = log.read().splitlines()
        return [line for line in lines if "[error]" in line][:12] or lines[-15:]

    def _is_ready(self) -> bool:
        speaks = speaks_amqp(LOOPBACK, self.ports.amqp)
        return speaks and (not self._config.management or accepts(LOOPBACK, self.ports.management))

    def _end_beam(self, grace: float) -> None:
        if self._beam:
            self._beam.end(grace=grace)
            self._beam = None
