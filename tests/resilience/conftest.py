"""A broker of this room's own, which a test may kill, alarm or overload, and the rig on it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from shared.tools.local.postgres import PrivatePostgres
from shared.tools.local.rabbitmq_node import PrivateNode
from tests.broker import new_node
from tests.postgres import private_postgres
from tests.resilience.rig import Rig
from tests.resilience.sink import running_sink
from tests.system import System, TestBroker, VirtualHost


@pytest.fixture(scope="session")
def node() -> Iterator[PrivateNode]:
    """A private node for the whole run."""
    with new_node() as node:
        yield node


@pytest.fixture(scope="session")
def broker(node: PrivateNode) -> TestBroker:
    """The node as every other fixture knows a broker."""
    assert node.management_url is not None
    return TestBroker(node.amqp_url, node.management_url)


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL server for the whole run, which a test may kill when it starts it again."""
    with TemporaryDirectory(prefix="traced-orders-postgres-") as directory, private_postgres(Path(directory)) as server:
        yield server


@pytest.fixture(scope="session")
def sink_url() -> Iterator[str]:
    """A backend that takes all telemetry and keeps none."""
    with running_sink() as url:
        yield url


@pytest.fixture
def rig(system: System, virtual_host: VirtualHost, node: PrivateNode, sink_url: str) -> Rig:
    """Services are started in it by the test, and end with it."""
    return Rig(system, virtual_host, node, sink_url)
