"""What the image of the services holds: the commands for people, and nothing of what runs it all on one machine."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import permutations
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("shared/tools/local", "shared/tools/receiver")
DOOR = ("shared.tools.cli", "shared.tools.local.stack_commands")
COMMANDS = ["submit", "show", "trace", "load", "watch", "dead-letters", "observe"]
NOWHERE = "http://127.0.0.1:1"

Orders = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("shared")


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Orders:
    """`orders` from a tree that holds what the image holds."""
    tree = tmp_path_factory.mktemp("image")

    def left_out(directory: str, names: list[str]) -> set[str]:
        inside = Path(directory).relative_to(ROOT)
        return {name for name in names if name == "__pycache__" or str(inside / name) in LEFT_OUT}

    shutil.copytree(ROOT / "shared", tree / "shared", ignore=left_out)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        program = (
            "import shared.tools.cli as cli; assert cli.__file__.startswith(__import__('os').getcwd()); cli.main()"
        )
        return subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tree,
            env={"PYTHONPATH": str(tree), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_the_image_is_built_without_what_runs_it_all_on_one_machine() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert "!shared" in lines
    for directory in LEFT_OUT:
        assert (ROOT / directory).is_dir()
        assert lines.index(directory) > lines.index("!shared"), "the last line that matches wins"


def test_the_images_own_check_asks_the_service_that_it_runs() -> None:
    line = next(line for line in _instructions() if line.startswith("HEALTHCHECK"))
    _, _, program = json.loads(line.partition(" CMD ")[2])
    check = [sys.executable, "-c", program]

    with HTTPServer(("127.0.0.1", 0), _Healthy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        there = subprocess.run(check, env={"ORDER_API_PORT": str(server.server_port)}, timeout=60, check=False)
    gone = subprocess.run(check, env={"ORDER_API_PORT": "1"}, capture_output=True, timeout=60, check=False)

    assert (there.returncode, gone.returncode) == (0, 1)


def test_the_base_of_the_image_is_named_by_its_digest_and_its_tag_is_on_the_label() -> None:
    stages = [line.split() for line in _instructions() if line.startswith("FROM ")]
    named = {words[3] for words in stages if words[2:3] == ["AS"]}

    (base,) = [words[1] for words in stages if words[1] not in named]

    assert (found := re.fullmatch(r"([a-z]+:[\w.-]+)@sha256:[0-9a-f]{64}", base)), base
    assert f'org.opencontainers.image.base.name="docker.io/library/{found[1]}"' in (ROOT / "Dockerfile").read_text()


def test_an_edit_of_the_readme_builds_nothing_of_the_image_anew() -> None:
    copied = [line for line in _instructions() if line.startswith("COPY ")]

    assert copied
    assert not any("README" in line for line in copied)
    assert "!README.md" not in (ROOT / ".dockerignore").read_text()


def _instructions() -> list[str]:
    return (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_only_one_door_leads_to_what_the_image_leaves_out(graph: grimp.ImportGraph) -> None:
    inside = tuple(directory.replace("/", ".") for directory in LEFT_OUT)

    crossings = {
        (importer, module)
        for module in graph.modules
        if module.startswith(inside)
        for importer in graph.find_modules_that_directly_import(module)
        if not importer.startswith(inside)
    }

    assert crossings == {DOOR}


def test_no_two_rooms_of_the_tools_need_each_other(graph: grimp.ImportGraph) -> None:
    rooms = sorted(graph.find_children("shared.tools"))

    circles = [
        (room, other)
        for room, other in permutations(rooms, 2)
        if room < other
        and graph.chain_exists(room, other, as_packages=True)
        and graph.chain_exists(other, room, as_packages=True)
    ]

    assert circles == []


def test_without_the_local_stack_its_commands_are_not_offered_and_the_others_are(orders: Orders) -> None:
    shown = orders("--help")

    assert shown.returncode == 0, shown.stderr
    offered = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ") and line[2:3].isalpha()]
    assert offered == COMMANDS
    assert "orders demo" not in shown.stdout
    assert orders("demo").returncode == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_without_the_local_stack_a_command_explains_itself(orders: Orders, command: str) -> None:
    done = orders(command, "--help")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["submit", "widget", "--api", NOWHERE], "There is no order API at http://127.0.0.1:1"),
        (["show", "X", "--api", NOWHERE], "There is no order API at http://127.0.0.1:1"),
        (["trace", "X", "--api", NOWHERE], "There is no order API at http://127.0.0.1:1"),
        (["load", "--api", NOWHERE], "There is no order API at http://127.0.0.1:1"),
        (["watch", "--amqp-url", "amqp://127.0.0.1:1/", "--traces-url", NOWHERE], "There is nothing to watch"),
        (
            ["dead-letters", "list", "--amqp-url", "amqp://127.0.0.1:1/"],
            "There is no connection to RabbitMQ at AMQP_URL",
        ),
        (["observe", "setup"], "Say where OpenObserve is"),
    ],
)
def test_without_the_local_stack_a_command_does_its_work(orders: Orders, words: list[str], expected: str) -> None:
    done = orders(*words)

    assert (done.returncode, done.stdout) == (1, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
