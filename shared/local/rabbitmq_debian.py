"""RabbitMQ from the packages of Debian or Ubuntu: installed on this machine, or in a tree, for another version."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared.local.rabbitmq_server import NO_BROKER, BrokerError, Server, find_server

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
        install_rabbitmq()
        server = find_server()
    if server is None:
        raise BrokerError(NO_BROKER)
    return server


def install_rabbitmq() -> None:
    """Install rabbitmq-server without a question, and without starting the distribution's own broker on port 5672."""
    with no_services_started():
        wait = "-oDPkg::Lock::Timeout=300"  # seconds, for whoever else is installing
        _run("apt-get", "--quiet", wait, "update")
        _run("apt-get", "--quiet", "--yes", wait, "--no-install-recommends", "install", "rabbitmq-server")


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

    For `PrivateNode(root=path)`. Two makers at once do no harm: the first to finish wins. Debian and Ubuntu, root only.
    """
    if find_server(path):
        return path
    if not can_install():
        raise BrokerError(f"A Debian tree in {path} can only be made by root on Debian or Ubuntu.")
    if shutil.which("debootstrap") is None:
        raise BrokerError(f"A Debian tree in {path} needs debootstrap: apt-get install debootstrap.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as beside:
        tree = Path(beside) / "tree"
        # A tree that is complete under its name, or none: what is cut short leaves no half of one.
        _run("debootstrap", "--variant=minbase", "--include=rabbitmq-server", suite, str(tree))
        tree.chmod(0o755)
        with contextlib.suppress(OSError):
            tree.rename(path)
    if not find_server(path):
        raise BrokerError(f"There is something else in {path}: no RabbitMQ server is in it, and it is not empty.")
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
