"""The telemetry folder stands alone: copied elsewhere under another name, it traces a message without the rest of us."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shared.telemetry
from tests.environment import plain_environment

FOLDER = Path(shared.telemetry.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
SCENARIO = Path(__file__).with_name("portable_scenario.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_of_it_imports_the_rest_of_us(path: Path) -> None:
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.append(node.module or "")

    assert not [name for name in modules if name.partition(".")[0] in {"shared", "order_api", "inventory_worker"}]


def test_under_another_name_it_traces_redacts_and_encodes(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "queue_tracing", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SCENARIO, tmp_path / "scenario.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", "scenario.py"],
        cwd=tmp_path,
        env=plain_environment("PYTHON"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["process jobs:resize", "send jobs", "upload"]
