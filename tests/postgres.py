"""A PostgreSQL server of the tests' own, from the server binaries of this machine."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from shared.local.guarded_process import GuardedProcess
from shared.local.ports import LOOPBACK, claim_port, port_of
from tests.waiting import eventually


class PrivatePostgres:
    """A server in a directory of its own, on a port of its own; it can be killed and started again."""

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
            "max_connections": "100",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        self._process = GuardedProcess([*self._as_owner, *command], env=os.environ, log=self._log)
        eventually(self._answers, within=30, what="PostgreSQL")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.end(grace=0)
            self._process = None

    @contextmanager
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


@contextmanager
def private_postgres(directory: Path) -> Iterator[PrivatePostgres]:
    """Run a server while the context lasts; a machine without the binaries fails with a sentence."""
    binaries = _find_binaries()
    with claim_port() as claim:
        server = PrivatePostgres(binaries, directory, port_of(claim))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _find_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("postgres")
    assert elsewhere, (
        "PostgreSQL's server is needed for these tests (Debian: apt-get install postgresql; macOS: brew install postgresql)"
    )
    return Path(elsewhere).resolve().parent


async def connect(url: str) -> asyncpg.Connection:
    """Connect to a database past the services, as a witness."""
    return await asyncpg.connect(url)
