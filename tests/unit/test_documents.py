"""What README and docs name is there: links, files, functions, `make` targets, `orders` commands, HTTP calls, services."""

import re
import shlex
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

from inventory_worker import routes as worker_routes
from order_api import routes as api_routes
from shared.service.probes import probes
from shared.tools.cli import app
from shared.tools.openobserve.alerts import ALERTS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
README = TEXTS["README.md"]
WAY = re.findall(r"^\d+\. \[`([\w.]+)`\]\(([\w/.]+)\) ", README, re.MULTILINE)
NAMES = sorted(
    {name for text in TEXTS.values() for name in re.findall(r"`((?:order_api|inventory_worker|shared)\.[\w.]+)`", text)}
)
TOPS = "order_api|inventory_worker|shared|tests|docs|benchmarks"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
COMMANDS = typer.main.get_command(app)
PATHS = [
    *(getattr(route, "path", "") for routes in (api_routes, worker_routes) for route in routes.router.routes),
    *(getattr(route, "path", "") for route in probes({}).routes),
    "/docs",
    "/openapi.json",
]


def _blocks(text: str) -> list[str]:
    """Give the lines of the blocks of code."""
    return "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)).splitlines()


def _commands(text: str) -> list[str]:
    """Give what is written as code, a command a line, without what is set before it and the comment after it."""
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for line in (*_blocks(text), *re.findall(r"`([^`\n]+)`", prose))]
    return [re.sub(r"^(?:[A-Z_]+=\S+ )+|\s+#.*$", "", line) for line in lines]


LINES = {(page, line) for page, text in TEXTS.items() for line in _commands(text)}
LINKS = {(page, link) for page, text in TEXTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)}
ORDERS = sorted(
    {
        found[1]
        for _, line in LINES
        if (found := re.match(r"(?:\.venv/bin/|docker compose exec (?:-e \S+ )*[\w-]+ )?orders (.+)", line))
    }
)


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 170


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    broken = []
    for link in (link for at, link in LINKS if at == page and "://" not in link):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", [page for page in TEXTS if page.startswith("docs/")])
def test_every_page_is_found_from_another_one(page: str) -> None:
    sources = [
        at
        for at, link in LINKS
        if at != page and ((ROOT / at).parent / link.partition("#")[0]).resolve() == ROOT / page
    ]

    assert sources != []


@pytest.mark.parametrize("page", TEXTS)
def test_every_file_that_is_named_is_there(page: str) -> None:
    named = re.findall(rf"(?<![\w/.])((?:{TOPS})/[\w./-]*\w)", TEXTS[page])

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_way_of_one_order_goes_through_both_services_and_back() -> None:
    packages = [name.split(".")[0] for name, _ in WAY if not name.startswith("shared")]

    assert len(WAY) >= 15
    assert [package for package, before in zip(packages, ["", *packages], strict=False) if package != before] == [
        "order_api",
        "inventory_worker",
        "order_api",
    ]


@pytest.mark.parametrize(("name", "path"), WAY)
def test_each_step_of_the_way_links_to_the_module_that_it_is_in(name: str, path: str) -> None:
    assert name.startswith(path.removesuffix(".py").replace("/", ".") + ".")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_in_the_code(name: str) -> None:
    assert resolve_name(name) is not None


def test_every_make_target_is_in_the_makefile() -> None:
    named = {(page, target) for page, line in LINES for target in re.findall(r"^make ([a-z-]+)", line)}

    assert len(named) > 10
    assert {(page, target) for page, target in named if target not in TARGETS} == set()


@pytest.mark.parametrize("words", ORDERS)
def test_every_orders_command_is_there_with_its_options(words: str) -> None:
    command: Any = COMMANDS
    for word in shlex.split(words):
        if hasattr(command, "commands") and not word.startswith("-"):
            assert word in command.commands
            command = command.commands[word]
        elif word.startswith("--") and word != "--help":
            assert word in {option for parameter in command.params for option in parameter.opts}


def _leaves(command: Any, name: str) -> dict[str, Any]:
    if not hasattr(command, "commands"):
        return {name: command}
    parts = command.commands.items()
    return {leaf: each for word, part in parts for leaf, each in _leaves(part, f"{name} {word}").items()}


def test_each_command_shows_examples() -> None:
    leaves = _leaves(COMMANDS, "orders")

    assert len(leaves) > 10
    assert {name for name, command in leaves.items() if "Examples" not in (command.epilog or "")} == set()


def test_every_http_call_has_a_route() -> None:
    called = {
        path for _, line in LINES for path in re.findall(r"(?:localhost|127\.0\.0\.1):800[01](/[^\s\"?`]*)", line)
    }
    called |= {path for _, line in LINES for path in re.findall(r"^(?:GET|POST|PUT) (/(?!api/)[^\s?]*)", line)}
    patterns = [re.sub(r"\{\w+\}", r"[^/]+", path) for path in PATHS if path]

    assert len(called) > 5
    assert [path for path in called if not any(re.fullmatch(pattern, path) for pattern in patterns)] == []


def test_every_service_of_compose_is_there() -> None:
    named = {
        name for _, line in LINES for name in re.findall(r"docker compose (?:exec|build) (?:-e \S+ )*([\w-]+)", line)
    }
    named |= {name for _, line in LINES for name in re.findall(r"--scale ([\w-]+)=", line)}

    assert named
    assert named <= set(SERVICES)


@pytest.mark.parametrize("alert", [alert.name for alert in ALERTS])
def test_the_runbook_has_an_entry_for_each_alert(alert: str) -> None:
    assert re.search(rf"^## .+\n\n`{alert}`", TEXTS["docs/runbook.md"], re.MULTILINE)


def test_no_metric_of_ours_that_is_named_in_the_documents_is_made_up() -> None:
    source = "".join(path.read_text() for path in (ROOT / "shared" / "tracing").glob("*.py"))
    made = {"orders.spans.lost", "orders.data_points.lost", "orders.log_records.lost"}
    made |= {
        f"orders.{room}.{name}" for room in ("queue", "connection") for name in re.findall(r'gauge\(\s*"(\w+)"', source)
    }
    made |= set(re.findall(r'"(orders\.[\w.]+)"', source))

    named = {name for text in TEXTS.values() for name in re.findall(r"`(orders\.[a-z_.]+)`", text)}

    assert len(named) > 10
    assert named - made == set()
