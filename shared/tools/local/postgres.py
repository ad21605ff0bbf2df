"""A PostgreSQL server of our own, from the server binaries of this machine: free port, files in a directory that is given."""

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from shared.tools.local.guarded_process import GuardedProcess
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.tool_error import ToolError

START_SECONDS = 60.0


class PostgresError(ToolError):
    """There is no server, or it does not start; the message is one sentence."""


class PrivatePostgres:
    """A server in a directory of its own, on a port of its own; it can be killed and started again.

    It keeps nothing safe: a crash of the machine may cost it all, and everybody on this machine may log in.
    """

    def __init__(self, binaries: Path, directory: Path, port: int) -> None:
        self._binaries = binaries
        self._data = directory / "data"
        self._log = directory / "postgres.log"
        self.port = port
        # The server refuses to run as root.
        self._as_owner = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        directory.chmod(0o777)
        initdb = [
            str(binaries / "initdb"),
            "--pgdata",
            str(self._data),
            "--username=orders",
            "--auth=trust",
            "--no-sync",
        ]
        subprocess.run([*self._as_owner, *initdb], check=True, capture_output=True)
        self._process: GuardedProcess | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "300",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        self._process = GuardedProcess([*self._as_owner, *command], env=os.environ, log=self._log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"PostgreSQL does not answer after {START_SECONDS:.0f} s: {self._process.last_line}"
                )
            time.sleep(0.05)

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None where it does not run."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.end(grace=0)
            self._process = None

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make a database, give its URL, and drop it at the end."""
        name = f"test_{secrets.token_hex(4)}"
        self._run(f'CREATE DATABASE "{name}"')
        try:
            yield f"postgresql://orders@{LOOPBACK}:{self.port}/{name}"
        finally:
            self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        psql = ["psql", "-h", LOOPBACK, "-p", str(self.port), "-U", "orders", "-d", "postgres", "-qc", statement]
        subprocess.run([str(self._binaries / psql[0]), *psql[1:]], check=True, capture_output=True)

    def _answers(self) -> bool:
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


@contextlib.contextmanager
def private_postgres(directory: Path, binaries: Path | None = None) -> Iterator[PrivatePostgres]:
    """Run a server while the context lasts; raises PostgresError where there are no `binaries` or it does not start."""
    found = binaries or find_postgres()
    if found is None:
        raise PostgresError("There is no PostgreSQL server here (Debian: apt-get install postgresql).")
    with claim_port() as claim:
        server = PrivatePostgres(found, directory, port_of(claim))
        try:
            server.start()
            yield server
        finally:
            server.kill()


def find_postgres() -> Path | None:
    """Find the newest server's directory of binaries; None where there is no server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("postgres")
    return Path(elsewhere).resolve().parent if elsewhere else None
