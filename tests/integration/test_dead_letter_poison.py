"""Dead letters that the client cannot decode: seen among the others, dropped like them, and never sent in again."""

import pytest

from shared.contract import topology
from tests.dead_letters import count, fail, letter, orders, put, succeed
from tests.hostile_properties import HEADERS, MICROSECONDS, MODES, SHORT_STRINGS, TIMESTAMPS
from tests.raw_amqp import RawPublisher, Refused, Section
from tests.system import VirtualHost

CASES = {
    case: {**TIMESTAMPS, **MODES, **SHORT_STRINGS, **HEADERS}[case]
    for case in (
        f"timestamp of {MICROSECONDS}",
        "delivery mode 3",
        "correlation_id that is no UTF-8",
        "message_id that is no UTF-8",
        "header name that is no UTF-8",
        "header timestamp in an array",
        "headers nested a thousand tables deep",
    )
}


@pytest.mark.parametrize("case", CASES)
def test_a_letter_that_cannot_be_decoded_is_shown_as_such_and_dropped_like_any_other(
    virtual_host: VirtualHost, case: str
) -> None:
    put(virtual_host, [letter(b"before", message_id="before")])
    _put_raw(virtual_host, CASES[case])
    put(virtual_host, [letter(b"after", message_id="after")])
    url = virtual_host.amqp_url

    listed = succeed(url, "list")
    printed = orders(url, "list")
    (undecodable,) = (found for found in listed if found["id"] not in {"before", "after"})
    shown = succeed(url, "show", undecodable["id"][:10])
    dropped = succeed(url, "drop", undecodable["id"][:10])

    assert [found["body"] for found in listed] == ["before", "the poison", "after"]
    assert (undecodable["reason"], undecodable["is_undecodable"]) == ("undecodable", True)
    assert undecodable["detail"]
    assert "undecodable" in printed.stdout
    assert shown["id"] == undecodable["id"] == dropped[0]["id"]
    assert [found["id"] for found in succeed(url, "list")] == ["before", "after"]


def test_a_replay_of_all_sends_in_again_what_can_be_and_says_how_many_cannot(virtual_host: VirtualHost) -> None:
    put(virtual_host, [letter(message_id="a"), letter(message_id="b")])
    for _ in range(20):
        _put_raw(virtual_host, CASES[f"timestamp of {MICROSECONDS}"])
    put(virtual_host, [letter(message_id="c")])
    url = virtual_host.amqp_url
    (poison,) = {found["id"] for found in succeed(url, "list") if found["is_undecodable"]}

    refused = fail(url, "replay", poison)
    done = orders(url, "replay", "--all")

    assert refused == f"The dead letter {poison} is undecodable: it can only be dropped.\n"
    assert done.stdout == "3 of 23 dead letters were replayed.\n"
    assert (done.returncode, done.stderr) == (
        1,
        "20 dead letters are undecodable and stay: they can only be dropped.\n",
    )
    assert (count(virtual_host), count(virtual_host, topology.INVENTORY_CHECK)) == (20, 3)
    assert orders(url, "drop", "--all").stdout == "20 of 20 dead letters were dropped.\n"


def test_a_letter_that_only_says_that_it_is_undecodable_is_replayed(virtual_host: VirtualHost) -> None:
    put(virtual_host, [letter(message_id="liar", headers={"x-dead-letter-reason": "undecodable"})])

    (replayed,) = succeed(virtual_host.amqp_url, "replay", "liar")

    assert (replayed["reason"], replayed["is_undecodable"]) == ("undecodable", False)


def _put_raw(host: VirtualHost, properties: Section) -> None:
    with RawPublisher(host.amqp_url) as publisher:
        try:
            publisher.publish("", topology.DEAD_LETTERS.encode(), properties, b"the poison")
        except Refused as refusal:
            pytest.skip(f"this broker takes no such message: {refusal}")
