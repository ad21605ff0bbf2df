"""1,200 dead letters: all of them, in part and on again, in their order, and with less memory than they take."""

import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from shared.contract import topology
from tests.dead_letters import ORDERS, count, environment, fail, letter, orders, put, put_many, succeed, take
from tests.faults.proxied_broker import proxied
from tests.system import VirtualHost
from tests.terminal import output_until
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)

MANY = 1200
LOOKS = """
import asyncio, resource, sys
from shared.tools.dead_letters import work

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform == "linux" else 1024)

seen = []
asyncio.run(work.look(sys.argv[1], 1, lambda letter: None))
before = peak()
asyncio.run(work.look(sys.argv[1], 1000, lambda letter: seen.append(letter.id)))
print(len(seen), (peak() - before) // 1024)
"""


def test_all_1200_letters_are_dropped(virtual_host: VirtualHost) -> None:
    put_many(virtual_host, MANY)

    done = orders(virtual_host.amqp_url, "drop", "--all")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1200 of 1200 dead letters were dropped.\n"
    assert count(virtual_host) == 0
    assert orders(virtual_host.amqp_url, "drop", "--all").stdout == "There are no dead letters.\n"


def test_all_1200_letters_are_replayed_in_their_order(virtual_host: VirtualHost) -> None:
    put_many(virtual_host, MANY)
    known = [found["id"] for found in succeed(virtual_host.amqp_url, "list", "--limit", "100000")]

    replayed = [found["id"] for found in succeed(virtual_host.amqp_url, "replay", "--all")]

    assert replayed == known
    assert sorted(known) == [f"{number:06d}" for number in range(MANY)]
    assert (count(virtual_host), count(virtual_host, topology.INVENTORY_CHECK)) == (0, MANY)


def test_ctrl_c_stops_a_replay_of_1200_and_the_same_command_goes_on_with_the_rest(virtual_host: VirtualHost) -> None:
    put_many(virtual_host, MANY)
    with proxied(virtual_host.amqp_url) as way:
        way.slow(0.005)

        status, shown = _interrupted(["replay", "--all", "--amqp-url", way.amqp_url], after=100)

    assert status == 130, shown
    stopped = re.search(r"Stopped after (\d+) of 1200 dead letters were replayed; the same command goes on", shown)
    assert stopped, shown
    done = int(stopped[1])
    assert 100 <= done < MANY
    assert (count(virtual_host), count(virtual_host, topology.INVENTORY_CHECK)) == (MANY - done, done)
    rest = orders(virtual_host.amqp_url, "replay", "--all")
    assert rest.stdout == f"{MANY - done} of {MANY - done} dead letters were replayed.\n"
    replayed = [message.body for message in take(virtual_host, topology.INVENTORY_CHECK)]
    assert len(replayed) == MANY


@pytest.mark.parametrize("command", [pytest.param("drop", marks=pytest.mark.long), "replay"])
def test_a_connection_lost_among_1200_letters_is_one_sentence_and_what_was_done_stays_done(
    virtual_host: VirtualHost, command: str
) -> None:
    put_many(virtual_host, MANY)
    with proxied(virtual_host.amqp_url) as way:
        way.slow(0.005)
        running = subprocess.Popen(
            [ORDERS, "dead-letters", command, "--all", "--amqp-url", way.amqp_url],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: count(virtual_host) < MANY - 300, within=90, what="a quarter of the work")
            way.cut()
            output, said = running.communicate(timeout=60)
        finally:
            running.kill()

    assert (running.returncode, output) == (1, "")
    lost = re.fullmatch(
        rf"RabbitMQ at \S+ was lost \(.*\), after (\d+) of 1200 dead letters were {command}\w+; "
        r"the same command goes on with the rest\.\n",
        said,
    )
    assert lost, said
    left = eventually(lambda: _settled_count(virtual_host), what="the letters that were taken are back")
    # What was settled just before the end may or may not have arrived: it is not claimed.
    assert MANY - left - 20 <= int(lost[1]) <= MANY - left
    rest = orders(virtual_host.amqp_url, command, "--all")
    assert (rest.returncode, rest.stdout.split()[0]) == (0, str(left))
    assert count(virtual_host) == 0


def test_a_broker_that_goes_silent_among_1200_letters_is_one_sentence(virtual_host: VirtualHost) -> None:
    put_many(virtual_host, MANY)
    with proxied(virtual_host.amqp_url) as way:
        way.slow(0.005)
        running = subprocess.Popen(
            [ORDERS, "dead-letters", "drop", "--all", "--amqp-url", way.amqp_url],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: count(virtual_host) < MANY - 300, within=90, what="a quarter of the work")
            way.stall()
            output, said = running.communicate(timeout=90)
        finally:
            running.kill()

    assert (running.returncode, output) == (1, "")
    assert re.match(r"RabbitMQ at \S+ was lost \(.*\), after \d+ of 1200 dead letters were dropped; ", said), said
    assert said.count("\n") == 1


def test_a_progress_bar_shows_how_far_it_is(virtual_host: VirtualHost) -> None:
    put_many(virtual_host, MANY)

    status, shown = _on_a_terminal(["drop", "--all", "--amqp-url", virtual_host.amqp_url])

    assert status == 0, shown
    assert re.search(r"\d+/1200", shown), shown
    assert "1200 of 1200 dead letters were dropped." in shown


def test_a_look_at_a_few_takes_no_more_than_these_and_leaves_the_order_as_it_was(virtual_host: VirtualHost) -> None:
    put_many(virtual_host, MANY)

    few = orders(virtual_host.amqp_url, "list", "--limit", "3")
    looks = [[found["id"] for found in succeed(virtual_host.amqp_url, "list", "--limit", "500")] for _ in range(2)]

    assert "3 of 1200 dead letters; --limit shows more." in few.stdout
    assert looks[0] == looks[1] == [f"{number:06d}" for number in range(500)]
    counts = [message.headers.get("x-delivery-count", 0) for message in take(virtual_host, topology.DEAD_LETTERS)]
    assert counts == [3] * 3 + [2] * 497 + [0] * 700


def test_a_look_at_100_megabytes_of_letters_holds_few_of_them(virtual_host: VirtualHost) -> None:
    put(virtual_host, [letter(b"large " * 100_000, message_id=f"{number}") for number in range(170)])

    done = subprocess.run(
        [sys.executable, "-c", LOOKS, virtual_host.amqp_url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    seen, megabytes = map(int, done.stdout.split())
    assert seen == 170
    assert megabytes < 50, megabytes


def test_a_queue_that_refuses_in_the_middle_is_one_sentence_that_says_how_many_went_before(
    virtual_host: VirtualHost,
) -> None:
    put_many(virtual_host, 150)
    policy = {"pattern": "^inventory.check$", "definition": {"max-length": 1}, "apply-to": "queues"}
    virtual_host.api.put(f"/policies/{virtual_host.name}/full", json=policy).raise_for_status()
    eventually(lambda: _has_policy(virtual_host), what="the policy")

    said = fail(virtual_host.amqp_url, "replay", "--all")

    replayed = re.match(
        r"inventory\.check at \S+ takes no message: the broker refuses it, after (\d+) of 150 dead letters were replayed;",
        said,
    )
    assert replayed, said
    assert count(virtual_host) == 150 - int(replayed[1])


def _has_policy(host: VirtualHost) -> bool:
    found = host.api.get(f"/queues/{host.name}/inventory.check").raise_for_status().json()
    return bool(found.get("policy") == "full")


def _settled_count(host: VirtualHost) -> int | None:
    """Count the letters, once none is in the hands of anybody."""
    found = host.api.get(f"/queues/{host.name}/{topology.DEAD_LETTERS}").raise_for_status().json()
    return count(host) if found.get("messages_unacknowledged") == 0 and found.get("consumers") == 0 else None


def _interrupted(words: Sequence[str], after: int) -> tuple[int, str]:
    """Run it on a terminal, press Ctrl-C when the bar has come so far; gives status and output."""

    def is_enough(shown: str) -> bool:
        return any(int(done) >= after for done in re.findall(r"(\d+)/1200", shown))

    return output_until([ORDERS, "dead-letters", *words], is_enough)


def _on_a_terminal(words: Sequence[str]) -> tuple[int, str]:
    return output_until([ORDERS, "dead-letters", *words], lambda _: False)
