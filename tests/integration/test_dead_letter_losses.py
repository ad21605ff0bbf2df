"""What the dead-letter commands cannot do anything about: each loss is one sentence, and one node of several is enough."""

import re

import pytest
from yarl import URL

from shared.contract import topology
from shared.contract.messages import DECISION_TYPE
from tests.dead_letters import count, fail, letter, orders, put, succeed, take
from tests.system import VirtualHost

COMMANDS = (["list"], ["show", "3f"], ["drop", "3f"], ["drop", "--all"], ["replay", "3f"], ["replay", "--all"])
DOWN = "amqp://guest:guest@127.0.0.1:1/"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_broker_that_is_away_is_one_sentence_that_names_every_node(words: list[str]) -> None:
    said = fail(f"{DOWN},amqp://guest:secret@127.0.0.1:2/", *words)

    assert re.fullmatch(
        r"There is no connection to RabbitMQ at AMQP_URL: 127\.0\.0\.1:1 \(.+\), 127\.0\.0\.1:2 \(.+\)\.\n", said
    )
    assert "secret" not in said


@pytest.mark.parametrize("words", COMMANDS)
def test_a_queue_that_is_missing_is_one_sentence(virtual_host: VirtualHost, words: list[str]) -> None:
    said = fail(virtual_host.amqp_url, *words)

    assert re.fullmatch(
        r"RabbitMQ at \S+ has no inventory\.check\.dead, which the services make when they start\.\n", said
    )


def test_a_login_and_a_virtual_host_that_are_refused_are_one_sentence_each(virtual_host: VirtualHost) -> None:
    url = URL(virtual_host.amqp_url)

    login = fail(str(url.with_password("wrong-one")), "list")
    host = fail(str(url.with_path("/no-such-host")), "list")

    assert "There is no connection to RabbitMQ at AMQP_URL" in login
    assert "(it refuses the user 'guest' or the password)." in login
    assert "wrong-one" not in login
    assert "(it refuses the virtual host 'no-such-host' to 'guest': there is none, or not for this user)." in host


@pytest.mark.parametrize("words", COMMANDS)
def test_the_next_node_is_tried_where_the_first_is_down(virtual_host: VirtualHost, words: list[str]) -> None:
    put(virtual_host, [letter(message_id="3f")])

    done = orders(f"{DOWN}, {virtual_host.amqp_url}", *words)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_check_that_no_queue_takes_is_one_sentence_and_stays_a_dead_letter(virtual_host: VirtualHost) -> None:
    put(virtual_host, [letter(message_id="3f")])
    virtual_host.api.delete(f"/queues/{virtual_host.name}/{topology.INVENTORY_CHECK}").raise_for_status()

    said = fail(virtual_host.amqp_url, "replay", "3f")

    assert re.match(
        r"inventory\.check at \S+ takes no message: no queue takes it, after 0 of 1 dead letters were replayed", said
    )
    assert count(virtual_host) == 1


def test_a_dead_reply_is_replayed_among_the_replies_and_not_among_the_checks(virtual_host: VirtualHost) -> None:
    by_type = letter(b'{"order_id":"A","status":"success"}', message_id="a", correlation_id="A", type=DECISION_TYPE)
    by_origin = letter(
        b"unread", message_id="b", type="no type", headers={"x-dead-letter-origin": topology.SHARED_REPLIES}
    )
    put(virtual_host, [by_type, by_origin])

    replayed = succeed(virtual_host.amqp_url, "replay", "--all")

    assert [found["id"] for found in replayed] == ["a", "b"]
    assert (count(virtual_host), count(virtual_host, topology.INVENTORY_CHECK)) == (0, 0)
    replies = take(virtual_host, topology.SHARED_REPLIES)
    assert [(reply.type, reply.correlation_id, reply.body) for reply in replies] == [
        (DECISION_TYPE, "A", by_type.body),
        ("no type", None, b"unread"),
    ]
