"""The broker that the tests are run against: `make test BROKER=4.0` picks the generation."""

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shared.contract.topology import QUEUES
from shared.tools.local.rabbitmq_debian import debian_tree, ensure_server
from shared.tools.local.rabbitmq_node import PrivateNode
from tests.waiting import eventually

OUR_QUEUES = tuple(queue.name for queue in QUEUES)
TREES = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "traced-orders"
SUITES = {"4.0": "trixie"}
"""The Debian release that holds a generation of RabbitMQ, for those that this machine's own does not have."""


def chosen() -> str:
    """Give the generation that BROKER asks for; empty for whatever is there."""
    wanted = os.environ.get("BROKER", "")
    assert wanted in {"", "installed", *SUITES}, f"BROKER is {wanted!r}; use installed, or {', '.join(SUITES)}"
    return wanted


def new_node(extra: Mapping[str, str] | None = None, **options: Any) -> PrivateNode:
    """Make a private node of the chosen generation, not started yet, whose management pages lag by half a second only.

    `extra` are lines of its configuration.
    """
    suite = SUITES.get(chosen())
    config = {"collect_statistics_interval": "500", **(extra or {})}
    if suite is not None:
        return PrivateNode(root=debian_tree(TREES / suite, suite), config=config, **options)
    return PrivateNode(server=ensure_server(), config=config, **options)


@contextmanager
def files_for_nodes() -> Iterator[tuple[Path, str]]:
    """Give a directory, and its path as nodes of the chosen generation see it, who may run in a tree of their own."""
    server = new_node().server
    with TemporaryDirectory(prefix="traced-orders-files-", dir=server.temporary) as name:
        directory = Path(name).resolve()
        yield directory, server.inside(directory)


def wait_until_saved(node: PrivateNode, queues: Collection[str] = OUR_QUEUES, host: str = "/") -> None:
    """Wait until these quorum queues survive a crash of their node.

    RabbitMQ 3.10 saves the names of new ones only when there has been none for 500 ms.
    """
    names = [f"{'%2F' if host == '/' else host}_{queue}".encode() for queue in queues]
    # As an Erlang atom, its length before it: else the name of one would be found in a longer one.
    atoms = [bytes([len(name)]) + name for name in names]

    def are_saved() -> bool:
        tables = node.directory.glob("data/*/quorum/*/names.dets")
        saved = b"".join(table.read_bytes() for table in tables)
        return all(atom in saved for atom in atoms)

    eventually(are_saved, what=f"the names of {', '.join(queues)} on disk")


@contextmanager
def shared_node(directory: Path) -> Iterator[tuple[str, str]]:
    """Give the AMQP and management URLs of one node for all processes of a run, which share `directory`.

    The first that comes starts it, and ends it when the last that uses it has gone.
    """
    address = directory / "broker"
    with (directory / "broker.gate").open("w") as gate, (directory / "broker.users").open("w") as users:
        fcntl.flock(gate, fcntl.LOCK_EX)
        if address.exists():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)
            amqp_url, management_url = address.read_text().split()
            yield amqp_url, management_url
            return
        with new_node() as node:
            address.write_text(f"{node.amqp_url} {node.management_url}")
            fcntl.flock(gate, fcntl.LOCK_UN)
            try:
                yield node.amqp_url, str(node.management_url)
            finally:
                fcntl.flock(gate, fcntl.LOCK_EX)
                fcntl.flock(users, fcntl.LOCK_EX)
                address.unlink()
