"""What the README says of the code is there: every function of an order's way, every file that it names."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
WAY = re.findall(r"^\d+\. `([\w.]+)` ", TEXT, re.MULTILINE)
NAMES = sorted(set(re.findall(r"`((?:order_api|inventory_worker|shared)\.[\w.]+)`", TEXT)))
FILES = sorted(set(re.findall(r"`((?:order_api|inventory_worker|shared|tests|docs|benchmarks)/[\w./]*)`", TEXT)))


def test_the_way_of_one_order_goes_through_both_services_and_back() -> None:
    packages = [name.split(".")[0] for name in WAY if not name.startswith("shared")]

    assert len(WAY) >= 15
    assert [package for package, before in zip(packages, ["", *packages], strict=False) if package != before] == [
        "order_api",
        "inventory_worker",
        "order_api",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_in_the_code(name: str) -> None:
    assert resolve_name(name) is not None


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()
