"""The pins: the OpenTelemetry set fits the aio-pika instrumentation, and the locks hold hashes and no addresses."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock"]


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locked_opentelemetry_set_fits_the_aio_pika_instrumentation(lock: str) -> None:
    pins = _pins(lock)
    instrumentation = "opentelemetry-instrumentation-aio-pika"

    wanted = [Requirement(text) for text in requires(instrumentation) or []]

    unmet = [
        f"{each} but {each.name}=={pins.get(each.name)}"
        for each in wanted
        if (each.marker is None or each.marker.evaluate({"extra": "instruments"}))
        and not each.specifier.contains(pins[each.name.replace("_", "-")])
    ]
    assert not unmet
    assert pins[instrumentation] == "0.66b1"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_opentelemetry_package_is_of_one_release(lock: str) -> None:
    versions = {name: version for name, version in _pins(lock).items() if name.startswith("opentelemetry-")}

    assert set(versions.values()) == {"1.45.1", "0.66b1"}


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-uv.lock"])
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:])


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = _pins("requirements.lock")

    unmet = [
        text
        for text in project["dependencies"]
        if not Requirement(text).specifier.contains(pins[Requirement(text).name])
    ]
    assert not unmet
