"""RabbitMQ from the packages of Debian or Ubuntu: installed on this machine, or in a tree, for another version."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared.tools.local.rabbitmq_server import NO_BROKER, BrokerError, Server, find_server

# Debian's package scripts ask this program before they start a service; 101 says no.
_POLICY = Path("/usr/sbin/policy-rc.d")
_DENY_ALL = "#!/bin/sh\nexit 101\n"


def can_install() -> bool:
    """Tell whether packages can be installed: as root, on Debian, Ubuntu or one of their children."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and _is_debian()


def ensure_server() -> Server:
    """Find this machine's RabbitMQ server, after installing one where there is none and it can be done."""
    server = find_server()
    if server is None and can_install():
        install("rabbitmq-server")
        server = find_server()
    if server is None:
        raise BrokerError(NO_BROKER)
    return server


def install(*packages: str) -> None:
    """Install packages without a question, and without starting the services in them: a broker on port 5672, say."""
    # Two that begin at a time would meet at apt's locks, of which not every one can be waited for.
    with _one_at_a_time(Path("/var/lib/apt/lists")), no_services_started():
        wait = "-oDPkg::Lock::Timeout=300"  # seconds, for whoever else is installing
        _run("apt-get", "--quiet", wait, "update")
        _run("apt-get", "--quiet", "--yes", wait, "--no-install-recommends", "install", *packages)


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep a directory to this process, and wait for another one that has it so."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def no_services_started(policy: Path = _POLICY) -> Iterator[None]:
    """Keep packages from starting services while they are installed; a policy that is already there stays in force."""
    try:
        with policy.open("x") as file:
            file.write(_DENY_ALL)
    except FileExistsError:
        yield
        return
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)


def debian_tree(path: Path, suite: str = "trixie") -> Path:
    """Make a Debian tree with RabbitMQ in it (4.0 in trixie) at `path` unless it is there; about 40 s and 400 MB.

    For `PrivateNode(root=path)`. Debian and Ubuntu, root only.
    """
    if find_server(path):
        return path
    if not can_install():
        raise BrokerError(f"A Debian tree in {path} can only be made by root on Debian or Ubuntu.")
    if shutil.which("debootstrap") is None:
        install("debootstrap")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(path.parent), tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as beside:
        if not path.exists():
            tree = Path(beside) / "tree"
            _run("debootstrap", "--variant=minbase", "--include=rabbitmq-server", suite, str(tree))
            tree.chmod(0o755)
            # A tree that is complete under its name, or none: what is cut short leaves no half of one.
            tree.rename(path)
    if not find_server(path):
        raise BrokerError(f"There is something else in {path}: no RabbitMQ server is in it.")
    return path


def _is_debian() -> bool:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return False
    names = " ".join(line.partition("=")[2].strip("\"'") for line in lines if line.startswith(("ID=", "ID_LIKE=")))
    return not {"debian", "ubuntu"}.isdisjoint(names.split())


def _run(*command: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        last_lines = done.stdout.strip().split("\n")[-15:]
        raise BrokerError("\n".join([f"`{' '.join(command)}` failed; it said last:", *last_lines]))
