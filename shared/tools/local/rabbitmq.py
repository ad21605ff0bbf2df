"""The broker for this machine: the given one, or a private one of whatever the machine has.

Nothing here touches a broker that it did not start.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from shared.tools.local.ports import LOOPBACK
from shared.tools.local.rabbitmq_debian import can_install, ensure_server
from shared.tools.local.rabbitmq_node import PrivateNode
from shared.tools.local.rabbitmq_server import NO_BROKER, BrokerError, accepts, find_server, speaks_amqp

__all__ = ["ObtainedBroker", "BrokerError", "Machine", "Way", "choose_way", "obtain_broker"]

IMAGE = "rabbitmq:4-management"
LABEL = "traced-orders.broker"
ENDED_EARLY = f"{IMAGE} ended in Docker while it was starting."


class Way(Enum):
    """How to come by a broker, in the order of preference."""

    GIVEN = "given"
    INSTALLED = "installed"
    DOCKER = "docker"
    INSTALL = "install"
    NONE = "none"


@dataclass(frozen=True)
class ObtainedBroker:
    """A broker that accepts connections; `node` is there where it is a private node, for who wants to crash it."""

    amqp_url: str
    description: str
    way: Way
    management_url: str | None = None
    node: PrivateNode | None = None


def docker_answers() -> bool:
    """Tell whether there is a Docker command and an engine behind it that answers within seconds."""
    try:
        _docker("version", "--format", "{{.Server.Version}}", timeout=10)
    except BrokerError:
        return False
    return True


@dataclass(frozen=True)
class Machine:
    """What there is to find out about this machine; asked only as far as needed."""

    has_server: Callable[[], bool] = lambda: find_server() is not None
    docker_answers: Callable[[], bool] = docker_answers
    can_install: Callable[[], bool] = can_install


def choose_way(amqp_url: str | None, machine: Machine) -> Way:
    """Decide how to come by a broker."""
    if amqp_url:
        return Way.GIVEN
    if machine.has_server():
        return Way.INSTALLED
    if machine.docker_answers():
        return Way.DOCKER
    return Way.INSTALL if machine.can_install() else Way.NONE


@contextlib.contextmanager
def obtain_broker(
    amqp_url: str | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    machine: Machine | None = None,
    usual_ports: bool = False,
) -> Iterator[ObtainedBroker]:
    """Yield a broker that accepts connections, and end it afterwards where it was started here.

    `amqp_url` (one URL, or several with commas) is used as it is. Progress goes to `say`. A private node takes the
    `usual_ports`, 5672 and 15672, where they are free. Raises BrokerError.
    """
    way = choose_way(amqp_url, machine or Machine())
    if way is Way.GIVEN:
        yield ObtainedBroker(_answering(amqp_url or ""), "the given broker", way)
    elif way is Way.DOCKER:
        with _container(say) as broker:
            yield broker
    elif way is Way.NONE:
        raise BrokerError(NO_BROKER)
    else:
        if way is Way.INSTALL:
            say("installing rabbitmq-server with apt-get ...")
        node = PrivateNode(server=ensure_server(), usual_ports=usual_ports)
        description = f"a private RabbitMQ {node.server.version}"
        say(f"starting {description} ...")
        with node:
            yield ObtainedBroker(node.amqp_url, description, way, node.management_url, node)


def _answering(amqp_urls: str) -> str:
    """Return the URLs as they are, once one of them accepts connections: better to say so now than to wait for services."""
    addresses = [(parts.hostname or LOOPBACK, parts.port or 5672) for parts in map(urlsplit, amqp_urls.split(","))]
    if not any(accepts(host, port, timeout=5.0) for host, port in addresses):
        raise BrokerError(f"No broker answers at {', '.join(f'{host}:{port}' for host, port in addresses)} (AMQP_URL).")
    return amqp_urls


@contextlib.contextmanager
def _container(say: Callable[[str], None], timeout: float = 90.0) -> Iterator[ObtainedBroker]:
    description = f"{IMAGE} in Docker"
    say(f"starting {description} ...")
    ports = ("--publish", f"{LOOPBACK}::5672", "--publish", f"{LOOPBACK}::15672")  # the engine picks free ones
    # The first run pulls the image: no deadline but the engine's own.
    container = _docker("run", "--detach", "--rm", "--label", f"{LABEL}=1", *ports, IMAGE, timeout=None)
    try:
        amqp, management = (_published(container, port) for port in (5672, 15672))
        deadline = time.monotonic() + timeout
        while not speaks_amqp(LOOPBACK, amqp):
            if time.monotonic() > deadline:
                raise BrokerError(f"{IMAGE} did not speak AMQP within {timeout:.0f} s of its start in Docker.")
            if not _docker("ps", "--quiet", "--filter", f"id={container}", timeout=10):
                raise BrokerError(ENDED_EARLY)
            time.sleep(0.2)
        management_url = f"http://{LOOPBACK}:{management}"
        yield ObtainedBroker(f"amqp://guest:guest@{LOOPBACK}:{amqp}/", description, Way.DOCKER, management_url)
    finally:
        with contextlib.suppress(BrokerError):  # the engine removes one that has ended itself
            _docker("rm", "--force", "--volumes", container, timeout=60)


def _published(container: str, port: int) -> int:
    try:
        return int(_docker("port", container, str(port), timeout=10).split()[0].rpartition(":")[2])
    except BrokerError as error:
        raise BrokerError(ENDED_EARLY) from error


def _docker(*words: str, timeout: float | None) -> str:
    program = shutil.which("docker")
    if program is None:
        raise BrokerError("There is no docker command.")
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"`docker {words[0]}` did not answer within {timeout} s.") from error
    except subprocess.CalledProcessError as error:
        raise BrokerError(f"`docker {words[0]}` failed: {error.stderr.strip()}") from error
    return done.stdout.strip()
