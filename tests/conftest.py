"""A real RabbitMQ for every test that is about messaging: a missing one fails, it never skips."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from shared.tools.local.postgres import PrivatePostgres
from shared.tools.local.rabbitmq import IMAGE, docker_answers
from shared.tools.local.rabbitmq_server import speaks_amqp
from tests.broker import chosen, shared_node
from tests.logging_state import logging_as_it_was
from tests.postgres import private_postgres
from tests.system import Api, Service, System, TestBroker, VirtualHost, management_of, running_system
from tests.waiting import eventually

TESTS = Path(__file__).parent

# A shell that starts the tests in the background has them ignore Ctrl-C, and they would pass that on to all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the room that it is in."""
    for item in items:
        rooms = item.path.relative_to(TESTS).parts
        if rooms[0] == "browser":
            item.add_marker(pytest.mark.browser)
        if rooms[0] not in {"unit", "browser"}:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    with logging_as_it_was():
        yield


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """One broker for the whole run: the generation that BROKER names, else a container, else a private node."""
    if not chosen() and docker_answers():
        # Not its RabbitMqContainer, which needs another AMQP client to see whether the broker is there.
        from testcontainers.core.container import DockerContainer

        with DockerContainer(IMAGE).with_exposed_ports(5672, 15672) as container:
            host = container.get_container_host_ip()
            amqp, management = (int(container.get_exposed_port(port)) for port in (5672, 15672))
            eventually(lambda: speaks_amqp(host, amqp), within=90, what="a broker in a container")
            amqp_url = f"amqp://guest:guest@{host}:{amqp}"
            yield TestBroker(amqp_url, management_of(amqp_url, management))
    else:
        # Beside others each process has a directory of its own in that of the run.
        own = tmp_path_factory.getbasetemp()
        with shared_node(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) as (amqp_url, management_url):
            yield TestBroker(amqp_url, management_url)


@pytest.fixture
def virtual_host(broker: TestBroker) -> Iterator[VirtualHost]:
    """A virtual host of the test's own."""
    with broker.virtual_host() as host:
        yield host


@pytest.fixture
def system(virtual_host: VirtualHost, tmp_path: Path) -> Iterator[System]:
    """A system of the test's own, with no service started yet."""
    with running_system(virtual_host.amqp_url, tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def shared_system(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all tests that only place orders."""
    with broker.virtual_host() as host, running_system(host.amqp_url, tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest.fixture(scope="session")
def shared_worker(shared_system: System) -> Service:
    """The worker of the shared system."""
    return shared_system.start_worker(INITIAL_STOCK='{"widget": 1000000, "gadget": 3, "gizmo": 5}').wait_until_ready()


@pytest.fixture(scope="session")
def api(shared_system: System, shared_worker: Service) -> Api:
    """The order API of the shared system."""
    started = shared_system.start_api()
    started.service.wait_until_ready()
    return started


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """One PostgreSQL server for the whole run."""
    with TemporaryDirectory(prefix="traced-orders-postgres-") as directory, private_postgres(Path(directory)) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/test.db"
    else:
        server: PrivatePostgres = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url
