"""The two configurations within docker-compose.yml, read by the programs that they are for.

HAProxy comes from Debian's package, the Collector from Go modules: some minutes of building.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.compose import COMPOSE, config
from tests.environment import plain_environment

COLLECTOR_VERSION = str(COMPOSE["services"]["collector"]["image"]).rpartition(":")[2]
CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"
MANIFEST = {
    "dist": {"name": "collector", "output_path": "./built"},
    "receivers": [{"gomod": f"go.opentelemetry.io/collector/receiver/otlpreceiver v{COLLECTOR_VERSION}"}],
    "processors": [
        {"gomod": f"go.opentelemetry.io/collector/processor/{each} v{COLLECTOR_VERSION}"}
        for each in ("memorylimiterprocessor", "batchprocessor")
    ]
    + [{"gomod": f"{CONTRIB}/processor/tailsamplingprocessor v{COLLECTOR_VERSION}"}],
    "exporters": [{"gomod": f"go.opentelemetry.io/collector/exporter/otlphttpexporter v{COLLECTOR_VERSION}"}],
    "extensions": [{"gomod": f"{CONTRIB}/extension/basicauthextension v{COLLECTOR_VERSION}"}],
    # Its newest version is not published as a module.
    "replaces": [f"{CONTRIB}/extension/internal/basicauth => {CONTRIB}/extension/internal/basicauth v0.155.0"],
}

pytestmark = pytest.mark.long


def _run(directory: Path, *command: str, **environment: str) -> None:
    program = shutil.which(command[0])
    assert program, f"this test needs {command[0]}"
    done = subprocess.run(
        [program, *command[1:]],
        cwd=directory,
        env=plain_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_haproxy_takes_the_configuration_of_the_proxy(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(config("proxy"))

    _run(tmp_path, "haproxy", "-c", "-f", str(file))


@pytest.mark.timeout(3000)
def test_the_collector_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(MANIFEST))
    builder = f"go.opentelemetry.io/collector/cmd/builder@v{COLLECTOR_VERSION}"
    _run(tmp_path, "go", "run", builder, "--config", "manifest.yaml")
    token = tmp_path / "token"
    token.write_text("o2oi_nothing")
    file = tmp_path / "collector.yaml"
    file.write_text(config("collector").replace("/run/openobserve/ingestion-token", str(token)))

    _run(
        tmp_path,
        str(tmp_path / "built" / "collector"),
        "validate",
        f"--config={file}",
        OPENOBSERVE_ORG="default",
        OPENOBSERVE_USER="root@example.com",
    )
