"""Which broker a machine gets: the way that is chosen, and the ways that no test machine has all of, on stand-ins."""

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.tools.local.rabbitmq import BrokerError, Machine, Way, choose_way, obtain_broker
from shared.tools.local.rabbitmq_debian import no_services_started
from shared.tools.local.rabbitmq_server import find_server

# A docker command that writes down how it is called, and "publishes" the ports of the test's own broker.
DOCKER = """#!{python}
import json, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
print({{"run": "c0ffee", "port": "127.0.0.1:{port}", "ps": "{running}"}}.get(sys.argv[1], "27.0"))
"""
CONNECTION_START = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce"


def machine(*, server: bool = False, docker: bool = False, apt: bool = False) -> Machine:
    return Machine(has_server=lambda: server, docker_answers=lambda: docker, can_install=lambda: apt)


@pytest.mark.parametrize(
    ("amqp_url", "found", "way"),
    [
        ("amqp://broker.example/", machine(server=True, docker=True, apt=True), Way.GIVEN),
        (None, machine(server=True, docker=True, apt=True), Way.INSTALLED),
        ("", machine(server=True), Way.INSTALLED),
        (None, machine(docker=True, apt=True), Way.DOCKER),
        (None, machine(apt=True), Way.INSTALL),
        (None, machine(), Way.NONE),
    ],
)
def test_the_first_way_that_works_is_taken(amqp_url: str | None, found: Machine, way: Way) -> None:
    assert choose_way(amqp_url, found) is way


def test_a_given_broker_is_used_without_a_look_at_the_machine() -> None:
    def unexpected() -> bool:
        raise AssertionError("the machine was probed")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"amqp://127.0.0.1:1/,amqp://127.0.0.1:{listener.getsockname()[1]}/"

        with obtain_broker(url, machine=Machine(unexpected, unexpected, unexpected)) as broker:
            assert broker.amqp_url == url
            assert broker.node is None


def test_a_given_broker_that_does_not_answer_is_named_without_its_password() -> None:
    with (
        pytest.raises(BrokerError, match=r"^No broker answers at 127\.0\.0\.1:1 \(AMQP_URL\)\.$"),
        obtain_broker("amqp://someone:secret@127.0.0.1:1/"),
    ):
        pass


def test_a_machine_without_any_way_is_told_what_to_install() -> None:
    with (
        pytest.raises(BrokerError, match=r"apt-get install .* brew install .* AMQP_URL=") as refusal,
        _obtain(machine()),
    ):
        pass

    assert str(refusal.value).count("\n") == 0


def test_a_container_is_labelled_kept_to_loopback_and_removed_by_its_id(docker: "FakeDocker") -> None:
    said: list[str] = []
    with docker.installed() as port, obtain_broker(say=said.append, machine=machine(docker=True)) as broker:
        assert broker.amqp_url == f"amqp://guest:guest@127.0.0.1:{port}/"
        assert broker.way is Way.DOCKER

    run, *_, removal = docker.calls()
    assert run[:5] == ["run", "--detach", "--rm", "--label", "traced-orders.broker=1"]
    assert run[-1] == "rabbitmq:4-management"
    assert [value for value in run if "5672" in value] == ["127.0.0.1::5672", "127.0.0.1::15672"]
    assert removal == ["rm", "--force", "--volumes", "c0ffee"]
    assert said == ["starting rabbitmq:4-management in Docker ..."]


def test_a_container_that_ends_while_it_starts_is_noticed_and_removed(docker: "FakeDocker") -> None:
    with (
        docker.installed(speaks_amqp=False, running=""),
        pytest.raises(BrokerError, match="ended in Docker while it was starting"),
        _obtain(machine(docker=True)),
    ):
        pass

    assert docker.calls()[-1][0] == "rm"


def test_services_are_not_started_by_an_installation(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"

    with no_services_started(policy):
        assert os.access(policy, os.X_OK)
        assert "exit 101" in policy.read_text()

    assert not policy.exists()


def test_a_policy_that_is_there_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")

    with no_services_started(policy):
        pass

    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize(
    "home",
    [
        "usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8",
        "opt/homebrew/opt/rabbitmq",
        "usr/local/opt/rabbitmq",
        "opt/rabbitmq",
    ],
)
def test_a_server_is_found_where_packages_put_it(tmp_path: Path, home: str) -> None:
    script = tmp_path / home / "sbin" / "rabbitmq-server"
    for directory in (script.parent, tmp_path / home / "plugins" / "rabbit-3.10.8"):
        directory.mkdir(parents=True)
    script.touch()

    server = find_server(tmp_path)

    assert server
    assert server.script == script
    assert server.version == "3.10.8"


def test_an_empty_machine_has_no_server(tmp_path: Path) -> None:
    assert find_server(tmp_path) is None


class FakeDocker:
    """A docker command on the PATH, and a listener that answers as a broker does."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "docker"
        self._calls = directory / "calls"

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()]

    @contextlib.contextmanager
    def installed(self, *, speaks_amqp: bool = True, running: str = "c0ffee") -> Iterator[int]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
            script = DOCKER.format(python=sys.executable, calls=str(self._calls), port=port, running=running)
            self._program.write_text(script)
            self._program.chmod(0o755)
            if not speaks_amqp:
                listener.close()
                yield port
                return
            answer = threading.Thread(target=self._answer, args=(listener,))
            answer.start()
            yield port
            answer.join(timeout=10)

    def _answer(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(8)
            connection.sendall(CONNECTION_START)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return FakeDocker(tmp_path)


@contextlib.contextmanager
def _obtain(found: Machine) -> Iterator[None]:
    with obtain_broker(machine=found):
        yield
