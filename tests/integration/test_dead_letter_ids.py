"""Which dead letters are meant: each text one letter, or nothing is done, whatever their senders called them."""

import pytest

from shared.contract.messages import CHECK_TYPE
from tests.dead_letters import count, fail, letter, orders, put, put_without_an_id, succeed
from tests.system import VirtualHost

HOSTILE_IDS = {
    "none": None,
    "empty": "",
    "an option": "--all",
    "a space": " ",
    "a quote": "it's",
    "a shell's": "$(reboot)",
    "a terminal's": "\x1b[2J\x07",
    "two lines": "a\nb",
    "no ASCII": "größe-\N{RIGHT-TO-LEFT OVERRIDE}",
    "somebody's address": "ada@example.com",
    "as long as it may be": "x" * 255,
}


@pytest.mark.parametrize("command", ["drop", "replay", "show"])
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_id_is_refused_and_means_no_letter(virtual_host: VirtualHost, command: str, empty: str) -> None:
    put(virtual_host, [letter(message_id=f"3{number}") for number in range(5)])

    said = fail(virtual_host.amqp_url, command, empty, status=2)

    assert "an id is empty" in said
    assert count(virtual_host) == 5


def test_the_beginning_of_several_ids_is_refused_with_their_number(virtual_host: VirtualHost) -> None:
    put(virtual_host, [letter(message_id=letter_id) for letter_id in ("3a1", "3a2", "3b1", "3a", "4")])
    url = virtual_host.amqp_url

    several = fail(url, "drop", "3")
    none = fail(url, "drop", "5")
    one_and_several = fail(url, "drop", "4", "3")
    whole = succeed(url, "drop", "3a")
    only = succeed(url, "drop", "3b")

    assert several == "3 is the beginning of the ids of 4 dead letters (3a1, 3a2, 3b1, ...): type more.\n"
    assert none == "There is no dead letter 5.\n"
    assert one_and_several == several
    assert [found["id"] for found in (*whole, *only)] == ["3a", "3b1"]
    assert count(virtual_host) == 3


@pytest.mark.parametrize("what", HOSTILE_IDS)
def test_a_letter_whose_id_cannot_be_typed_gets_one_that_can(virtual_host: VirtualHost, what: str) -> None:
    given = HOSTILE_IDS[what]
    put(virtual_host, [letter(b"1", message_id="1")])
    if given:
        put(virtual_host, [letter(b"2", message_id=given)])
    else:
        put_without_an_id(virtual_host, b"2", **({} if given is None else {"message_id": given}))
    put(virtual_host, [letter(b"3", message_id="3")])
    url = virtual_host.amqp_url

    listed = succeed(url, "list")
    again = succeed(url, "list")
    printed = orders(url, "list").stdout
    shown = succeed(url, "show", listed[1]["id"][:12])
    dropped = succeed(url, "drop", listed[1]["id"])

    assert listed == again, "looked at twice, a letter has the same id"
    assert listed[1]["id"].isalnum()
    assert printed.isprintable() or printed.replace("\n", "").isprintable()
    assert [shown["body"], *(found["body"] for found in dropped)] == ["2", "2"]
    assert [found["body"] for found in succeed(url, "list")] == ["1", "3"]


def test_of_copies_alike_to_the_last_byte_one_is_dropped_at_a_time(virtual_host: VirtualHost) -> None:
    for _ in range(3):
        put_without_an_id(virtual_host, b"copy")
    url = virtual_host.amqp_url
    (letter_id,) = {found["id"] for found in succeed(url, "list")}

    left = [(succeed(url, "drop", letter_id), count(virtual_host))[1] for _ in range(3)]

    assert left == [2, 1, 0]


def test_letters_that_share_an_id_are_told_apart_by_their_digests(virtual_host: VirtualHost) -> None:
    put(virtual_host, [letter(b"1", message_id="same"), letter(b"2", message_id="same")])
    url = virtual_host.amqp_url
    first, second = succeed(url, "list")

    refused = fail(url, "drop", "same")
    dropped = succeed(url, "drop", second["digest"])

    assert refused == (
        f"2 dead letters have the id same: name one by its digest ({first['digest']}, {second['digest']}).\n"
    )
    assert [found["body"] for found in dropped] == ["2"]
    assert [found["body"] for found in succeed(url, "list")] == ["1"]


def test_what_a_sender_wrote_is_masked_and_steers_no_terminal(virtual_host: VirtualHost) -> None:
    headers = {"x-dead-letter-reason": "\x1b[31mred ada@example.com", "x-dead-letter-detail": ["no", "text"]}
    put(virtual_host, [letter(b"\x1b[2J of ada@example.com", correlation_id="\x07" * 200, headers=headers)])
    url = virtual_host.amqp_url
    (letter_id,) = (found["id"] for found in succeed(url, "list"))

    listed, shown = orders(url, "list"), orders(url, "show", letter_id)

    assert (listed.returncode, shown.returncode) == (0, 0)
    for printed in (listed.stdout, shown.stdout):
        assert printed.replace("\n", "").isprintable()
        assert "ada@example.com" not in printed
    assert CHECK_TYPE in shown.stdout
    assert "of [redacted]" in shown.stdout
