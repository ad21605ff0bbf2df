"""The package as it comes to others: installed into an empty environment, with no code of theirs touched, as its README says."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.test._otlp_test_server import OtlpProtoTestServer

import shared.telemetry
from tests.environment import plain_environment
from tests.system import VirtualHost

FOLDER = Path(shared.telemetry.__file__).parent
HERE = Path(__file__).parent
UV = Path(sys.executable).with_name("uv")
OURS = "aio_pika_whole_traces"
SEND, RECEIVE, PROCESS = 4, 3, 5
"""Span kinds on the wire: PRODUCER, CLIENT, CONSUMER."""


class Environment:
    """A virtual environment in a directory of its own, where nothing of this repository can be imported."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.bin = directory, directory / "venv" / "bin"
        subprocess.run([UV, "--no-config", "venv", "--quiet", directory / "venv"], check=True, timeout=120)

    def install(self, *what: str) -> None:
        """Install packages."""
        command: list[str | Path] = [
            UV,
            "--no-config",
            "pip",
            "install",
            "--quiet",
            "--python",
            self.bin / "python",
            *what,
        ]
        subprocess.run(command, check=True, timeout=280)

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a program of the environment; what it says on stderr fails the test."""
        environment = plain_environment("PYTHON", "VIRTUAL_ENV", **variables)
        done = subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.directory, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What a newcomer has after the README's first line."""
    made = Environment(tmp_path_factory.mktemp("newcomer"))
    made.install(str(FOLDER), "opentelemetry-distro", "opentelemetry-exporter-otlp-proto-http")
    return made


def test_it_installs_into_an_empty_environment_and_is_cheap_to_import(environment: Environment) -> None:
    program = f"""
import sys
import {OURS}
before = set(sys.modules)
assert not before & {{"aio_pika", "opentelemetry", "requests", "google.protobuf"}}, before
missing = [name for name in {OURS}.__all__ if name not in {list(_needing_otlp())!r} and not hasattr({OURS}, name)]
assert not missing, missing
assert "requests" not in {OURS}.__file__ and not [name for name in sys.modules if name.startswith(("shared", "order_api"))]
print({OURS}.__file__)
"""
    place = Path(environment.run("python", "-c", program).strip()).parent

    assert (place.name, place.parent.name) == (OURS, "site-packages")
    assert {"py.typed", "telemetry-schema"} <= {path.name for path in place.iterdir()}


def test_what_it_needs_is_less_than_the_product_has() -> None:
    product = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    package = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]

    needed = {re.split(r"[><=\[]", line)[0] for line in package["dependencies"]}
    assert needed == {"aio-pika", "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation-aio-pika"}
    assert not [line for line in product["dependencies"] if package["name"] in line]


def test_it_knows_its_version_and_what_is_public() -> None:
    package = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]

    assert shared.telemetry.__version__ == package["version"]
    assert set(shared.telemetry.__all__) <= set(dir(shared.telemetry))


def test_an_application_that_knows_nothing_of_it_gets_the_full_picture(
    environment: Environment, virtual_host: VirtualHost
) -> None:
    official = _traced(environment, virtual_host, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=OURS)
    with_ours = _traced(environment, virtual_host)

    assert _kinds(official) == {SEND: 9, PROCESS: 11}
    assert _kinds(with_ours) == {SEND: 9, PROCESS: 12}
    assert sum(len(span.links) for span in official) == 0
    assert [len(span.links) for span in with_ours if span.kind == PROCESS] == [1] * 12
    assert len(_names_with_ids(official)) >= 5
    assert _names_with_ids(with_ours) == set()
    assert {span.name for span in with_ours} == {
        "send parcels", "process parcels:parcel-scans", "process damaged:claims", "send news", "process news:readers",
        "process news", "send jobs", "process jobs", "send done", "process done", "send price", "process price", "send",
        "process",
    }  # fmt: skip
    outcomes = Counter(_texts(span)["delivery.outcome"] for span in with_ours if span.kind == PROCESS)
    assert outcomes == {"ack": 10, "reject": 1, "auto_ack": 1}
    assert (len({span.trace_id for span in official}), len({span.trace_id for span in with_ours})) == (8, 7)


def test_its_propagator_and_samplers_are_a_variable_away(environment: Environment, virtual_host: VirtualHost) -> None:
    spans = _traced(
        environment,
        virtual_host,
        OTEL_PROPAGATORS="guarded_tracecontext",
        OTEL_TRACES_SAMPLER="linked_parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
    )

    assert spans == []


def test_the_example_of_the_readme_runs_as_it_stands_and_makes_one_trace(
    environment: Environment, virtual_host: VirtualHost
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 60

    printed = environment.run("python", "-c", example, AMQP_URL=virtual_host.amqp_url).splitlines()

    assert len({line.split()[0] for line in printed}) == 1
    assert sorted(line.partition(" ")[2] for line in printed) == [
        "process library:lendings", "process library:returns", "reader asks for a book", "send library", "send library",
    ]  # fmt: skip


def test_a_faststream_application_is_traced_as_it_is(environment: Environment, virtual_host: VirtualHost) -> None:
    environment.install("faststream[rabbit]")

    spans = _traced(environment, virtual_host, application="faststream_application.py")

    assert sorted(span.name for span in spans) == [
        "process alarms", "process readings", "process readings", "send alarms", "send readings", "send readings",
    ]  # fmt: skip
    assert len({span.trace_id for span in spans}) == 2
    became = sorted(
        (_texts(span)["delivery.outcome"], _texts(span).get("error.type")) for span in spans if span.kind == PROCESS
    )
    assert became == [("ack", None), ("ack", None), ("reject", "ValueError")]


def _traced(
    environment: Environment, host: VirtualHost, application: str = "plain_application.py", **variables: str
) -> Sequence[Any]:
    """Run an application of this directory without touching it, and give the spans that it exported."""
    with OtlpProtoTestServer() as server:
        environment.run(
            "opentelemetry-instrument",
            environment.bin / "python",
            HERE / application,
            AMQP_URL=host.amqp_url,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.port}",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            **variables,
        )
        return [recorded.span for recorded in server.drain_spans()]


def _kinds(spans: Sequence[Any]) -> Mapping[int, int]:
    return Counter(span.kind for span in spans)


def _texts(span: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span.attributes}


def _names_with_ids(spans: Sequence[Any]) -> set[str]:
    return {span.name for span in spans if re.search(r"4711|4712|4713|amq_|amq\.gen", span.name)}


def _needing_otlp() -> Sequence[str]:
    """The public names that need the `otlp` extra."""
    homes = shared.telemetry._HOMES
    return [name for name, home in homes.items() if home in {"exporters", "sender", "target"}]
