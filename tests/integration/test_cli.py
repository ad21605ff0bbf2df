"""The command line beside a system that `orders up` has started: load, the live view, traces, help, errors and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from shared.tools.cli import app
from shared.tools.defaults import AMQP_URL, API_URL
from shared.tools.traces.model import span_from_json
from shared.tools.traces.readback import Trace, is_whole
from tests.environment import plain_environment
from tests.system import new_id
from tests.terminal import output_until
from tests.waiting import eventually

ORDERS = str(Path(sys.executable).with_name("orders"))
NOWHERE = "http://127.0.0.1:1"
ROOT = Path(__file__).parents[2]
BESIDE_UP = (
    r"curl .*http://(?:localhost|127\.0\.0\.1):800[01]/"
    r"|orders (?:show|submit|watch(?!.*:15672)|load|trace ORDER1|dead-letters (?:list|\w+ --all))"
)
"""What of the documents is typed while `make up` runs, and succeeds whatever else was typed before."""


def _environment(**more: str) -> dict[str, str]:
    return plain_environment(COLUMNS="100", LINES="40") | more


def _orders(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ORDERS, *words], env=_environment(**environment), capture_output=True, text=True, timeout=60, check=False
    )


@dataclass(frozen=True)
class Up:
    """What `orders up` says of the system that it has started."""

    api: Sequence[str]
    """Options that name the order API."""
    watch: Sequence[str]
    """The options of `orders watch` that it prints."""
    amqp: Sequence[str]
    traces: str
    inventory: str
    """Where the inventory worker is."""
    typed: Sequence[str]
    """What it says to type, in another terminal."""

    def json(self, *words: str) -> Any:
        """Run a command that succeeds and prints JSON."""
        environment = {"OPENOBSERVE_URL": self.traces} if words[0] == "trace" else {}
        done = _orders(*words, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One system for this module, ended as a person ends it."""
    directory = tmp_path_factory.mktemp("up")
    output = directory / "output"
    with output.open("w") as file:
        running = subprocess.Popen([ORDERS, "up"], env=_environment(TMPDIR=str(directory)), stdout=file, stderr=file)
    try:
        said = eventually(lambda: _text_with(output, "Ctrl-C ends it all", running), within=90, what="`orders up`")
        watch = _found(r"orders watch(.*)", said).split()
        amqp = watch[watch.index("--amqp-url") :][:2] if "--amqp-url" in watch else []
        yield Up(
            api=["--api", _found(r"orders +(http://\S+)/docs", said)],
            watch=watch,
            amqp=amqp,
            traces=_found(r"traces +(http://\S+)", said),
            inventory=_found(r"inventory +(http://\S+)/docs", said),
            typed=re.findall(r"^ +((?:curl|\.venv/bin/orders) .+)$", said, re.MULTILINE),
        )
    finally:
        running.send_signal(signal.SIGINT)
        status = running.wait(60)
    assert status == 130
    assert [path.name for path in directory.iterdir()] == ["output"], "files are left"


def _text_with(file: Path, text: str, running: subprocess.Popen[bytes]) -> str | None:
    assert running.poll() is None, file.read_text()
    return file.read_text() if text in file.read_text() else None


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


def test_load_places_as_many_orders_as_asked_for_and_says_how_long_they_took(up: Up) -> None:
    done = up.json("load", "--count", "40", "--concurrency", "4", "widget=2", *up.api)

    assert (done["orders"], done["failed"]) == (40, 0)
    assert [(a["http_status"], a["outcome"], a["orders"]) for a in done["answers"]] == [(201, "success", 40)]
    latency = done["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"] <= done["seconds"] * 1000
    assert done["orders_per_second"] == pytest.approx(40 / done["seconds"])
    assert done["slowest"]["ms"] == latency["max"]
    assert up.json("show", done["slowest"]["order_id"], *up.api)["status"] == "success"


def test_load_keeps_to_its_rate_and_ends_when_its_time_is_over(up: Up) -> None:
    done = up.json("load", "--rate", "10", "--seconds", "1", "--count", "1000", *up.api)

    assert 0 < done["orders"] <= 10
    assert done["failed"] == 0


def test_load_with_a_failed_request_shows_it_and_ends_with_1(up: Up) -> None:
    done = _orders("load", "--count", "5", "no/such/sku", *up.api)

    assert done.returncode == 1
    assert re.search(r"^422 Unprocessable \w+ +5 ", done.stdout, re.MULTILINE)
    assert "5 requests failed" in done.stdout
    assert "━" not in done.stdout, "no progress bar where there is no terminal"
    assert done.stderr == ""


def test_load_shows_a_progress_bar_on_a_terminal(up: Up) -> None:
    status, shown = _on_a_terminal(["load", "--count", "30", *up.api], lambda _: False)

    assert status == 0
    assert "30/30" in shown
    assert "orders/s" in shown


def test_watch_gives_a_snapshot_of_the_queue_and_the_last_orders(up: Up) -> None:
    order_id = new_id()
    up.json("submit", "widget", "--id", order_id, *up.api)

    def snapshot() -> Any:
        found = up.json("watch", "--last", "50", *up.watch)
        # The broker counts every 5 s: what it says may be of the load before.
        is_counted = (found["queue"]["consumers"], found["queue"]["in_flight"]) == (1, 0)
        return found if is_counted and order_id in [o["order_id"] for o in found["orders"]["newest"]] else None

    found = eventually(snapshot, within=30, what="the order in the view")

    assert found["notes"] == []
    assert (found["queue"]["ready"], found["queue"]["in_flight"], found["queue"]["dead_letters"]) == (0, 0, 0)
    assert found["orders"]["outcomes"]["success"] >= 1
    (order,) = [order for order in found["orders"]["newest"] if order["order_id"] == order_id]
    assert order["status"] == "success"
    assert order["trace_id"] == up.json("show", order_id, *up.api)["trace_id"]
    printed = _orders("watch", "--once", *up.watch)
    assert printed.returncode == 0
    assert re.search(r"checks +ready 0 +in flight 0 +consumers 1", printed.stdout)
    assert order_id in printed.stdout


def test_watch_asks_the_broker_itself_where_there_is_no_management(up: Up) -> None:
    found = up.json("watch", "--management-url", NOWHERE, *up.amqp)

    assert (found["queue"]["ready"], found["queue"]["consumers"]) == (0, 1)
    assert found["queue"]["in_flight"] is None, "only the management interface knows it"


def test_watch_asks_the_next_node_where_the_first_is_down(up: Up) -> None:
    there = up.amqp[1] if up.amqp else AMQP_URL

    found = up.json("watch", "--management-url", NOWHERE, "--amqp-url", f"amqp://127.0.0.1:1/,{there}")

    assert (found["queue"]["ready"], found["queue"]["consumers"]) == (0, 1)


def test_watch_shows_what_is_there_and_names_what_is_not(up: Up) -> None:
    done = _orders("watch", "--once", *up.amqp, "--traces-url", NOWHERE)

    assert done.returncode == 0
    assert "There is no receiver for traces at http://127.0.0.1:1" in done.stdout
    assert "consumers" in done.stdout


def test_watch_goes_on_until_ctrl_c_and_ends_with_0(up: Up) -> None:
    order_id = new_id()
    placed: list[Any] = []

    def sees_the_order(shown: str) -> bool:
        if not placed and "checks" in shown:
            placed.append(up.json("submit", "widget", "--id", order_id, *up.api))
        return order_id in shown

    status, shown = _on_a_terminal(["watch", "--every", "0.2", *up.watch], sees_the_order)

    assert status == 0
    assert order_id in shown


def test_trace_as_json_is_every_span_in_full(up: Up) -> None:
    order = up.json("submit", "widget", *up.api)

    found = up.json("trace", order["order_id"], *up.api)

    spans, linked = ([span_from_json(span) for span in found[part]] for part in ("spans", "linked"))
    assert is_whole(Trace(found["trace_id"], spans, linked))
    assert {span.attributes.get("order.id") for span in spans if span.kind == "CONSUMER"} == {order["order_id"]}


def _type(line: str, up: Up, directory: Path, *, says_where: bool) -> subprocess.CompletedProcess[str]:
    """Type a line in a shell at the root of a checkout, on a terminal that knows where things are or not."""
    (directory / ".venv" / "bin").mkdir(parents=True)
    (directory / ".venv" / "bin" / "orders").symlink_to(ORDERS)
    amqp = up.amqp[1] if up.amqp else AMQP_URL
    where = {"ORDER_API_URL": up.api[1], "AMQP_URL": amqp, "OPENOBSERVE_URL": up.traces} if says_where else {}
    path = f"{Path(ORDERS).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", line], cwd=directory, env=_environment(PATH=path, **where), capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip


def test_what_up_says_to_type_succeeds_as_it_stands(up: Up, tmp_path: Path) -> None:
    assert [line.split()[:2] for line in up.typed] == [
        ["curl", "-X"],
        [".venv/bin/orders", "trace"],
        [".venv/bin/orders", "watch"],
    ]
    for number, line in enumerate(up.typed):
        done = _type(line.replace("curl", "curl --fail --silent"), up, tmp_path / str(number), says_where=False)

        assert done.returncode == 0, (line, done.stderr)
        assert "ORDER1" in done.stdout or "process orders:inventory.check" in done.stdout


@pytest.fixture(scope="module")
def order1(up: Up) -> None:
    """The order that documents and examples are about."""
    up.json("submit", "widget", "--id", "ORDER1", *up.api)


def _epilogs(command: Any) -> Iterator[str]:
    """Give what stands below the help of a command, and of all below it."""
    yield command.epilog or ""
    for each in getattr(command, "commands", {}).values():
        yield from _epilogs(each)


def _documented() -> list[str]:
    """Give the calls of documents and of examples that need no more than ORDER1 and no dead letter, made small."""
    pages = "".join(page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    blocks = "".join(re.findall(r"^```\n(.*?)^```$", pages, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    examples = re.findall(r"\[bold\](.*?)\[/\]", "\n".join(_epilogs(typer.main.get_command(app))))
    lines = {re.sub(r"^\.venv/bin/| +# .*", "", line) for line in (*blocks.splitlines(), *examples)}
    return sorted(line for line in lines if re.match(BESIDE_UP, line))


@pytest.mark.parametrize("line", _documented())
@pytest.mark.usefixtures("order1")
def test_what_is_documented_to_be_typed_beside_up_succeeds(up: Up, line: str, tmp_path: Path) -> None:
    for documented, here in {
        "curl ": "curl --fail --silent --show-error ",
        "localhost:": "127.0.0.1:",
        API_URL: up.api[1],
        "http://127.0.0.1:8001": up.inventory,
        "--seconds 10": "--seconds 1",
        "--count 5000": "--count 50",
        "orders load #": "orders load --count 50",
        "orders/ORDER-1": "orders/ORDER1",
    }.items():
        line = f"{line} #".replace(documented, here).removesuffix(" #")
    command, _, query = line.partition(" | jq ")

    done = _type(command, up, tmp_path, says_where=True)

    assert done.returncode == 0, done.stderr
    assert not query or json.loads(done.stdout)


@pytest.mark.parametrize("words", [["show", "ORDER1"], ["show", "ORDER1", "--json"], ["trace", "ORDER1", "--json"]])
@pytest.mark.usefixtures("order1")
def test_a_full_disk_is_one_sentence_and_a_reader_that_has_gone_is_none(up: Up, words: list[str]) -> None:
    environment = _environment(ORDER_API_URL=up.api[1], OPENOBSERVE_URL=up.traces)
    reading, gone = os.pipe()
    os.close(reading)

    with Path("/dev/full").open("wb") as full, os.fdopen(gone, "wb") as pipe:
        said = [
            subprocess.run([ORDERS, *words], env=environment, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
            for out in (full, pipe)
        ]

    assert [(done.returncode, done.stderr) for done in said] == [(1, "orders: No space left on device.\n"), (1, "")]


@pytest.mark.usefixtures("order1")
def test_a_picture_on_a_full_disk_is_one_sentence(up: Up) -> None:
    done = _orders("trace", "ORDER1", "--svg", "/dev/full", *up.api, "--traces-url", up.traces)

    assert (done.returncode, done.stderr) == (1, "orders: No space left on device.\n")


COMMANDS = ["submit", "show", "trace", "load", "watch", "scenarios"]
LETTERS = ["list", "show", "replay", "drop"]


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["dead-letters", name] for name in LETTERS])
def test_the_help_of_a_command_has_examples(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])

    assert done.exit_code == 0
    assert f"orders {' '.join(command)}" in done.output.partition("Examples")[2]


def test_the_help_of_the_whole_says_what_the_exit_codes_mean() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())

    assert "ends with 0 when all went well, 1 when something failed" in shown
    assert "2 for a command or a setting that was not understood, and 130 after Ctrl-C" in shown


def test_a_shell_completes_the_commands() -> None:
    done = _orders(_ORDERS_COMPLETE="complete_bash", COMP_WORDS="orders s", COMP_CWORD="1")

    assert done.stdout.split() == ["scenarios", "submit", "show"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["load", "--api", NOWHERE], "There is no order API at http://127.0.0.1:1"),
        (["show", "X", "--api", NOWHERE], "There is no order API at http://127.0.0.1:1"),
        (
            ["watch", "--once", "--amqp-url", "amqp://127.0.0.1:1/", "--traces-url", NOWHERE],
            "There is nothing to watch, `make up` starts something: there is no connection to RabbitMQ at 127.0.0.1:1",
        ),
        (["watch", "--amqp-url", "nonsense", "--traces-url", "nonsense"], "AMQP_URL is not an address"),
        (
            ["dead-letters", "list", "--amqp-url", "amqp://127.0.0.1:1/"],
            "There is no connection to RabbitMQ at AMQP_URL",
        ),
    ],
)
def test_a_service_that_is_not_there_is_named_in_one_line_and_ends_with_1(words: list[str], expected: str) -> None:
    done = _orders(*words)

    assert done.returncode == 1
    assert done.stdout == ""
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["load", "--count", "0"], ["watch", "--every", "soon"], ["no-such-command"]])
def test_a_command_that_is_not_understood_ends_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


def _on_a_terminal(words: list[str], is_enough: Callable[[str], bool]) -> tuple[int, str]:
    """Run a command on a terminal until it ends, or until enough is shown and Ctrl-C ends it; gives status and output."""
    return output_until([ORDERS, *words], is_enough, _environment())
