"""What the client cannot decode is delivered with a mark: frame by frame, without a broker."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import aiormq
import pamqp.frame
import pytest
from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from aiormq.connection import FrameReceiver
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from shared.rabbit.decoding import defect_of, tolerate_undecodable
from tests.hostile_properties import (
    NOT_UTF8,
    READABLE,
    TIMESTAMPS,
    UNREADABLE,
)
from tests.raw_amqp import Section, header_frame, method_frame, section, short_string, table


def reason_of(message: Any) -> str | None:
    """Say in one line why a message cannot be worked with; None where it can."""
    defect = defect_of(message)
    return None if defect is None else str(defect)


@pytest.fixture(autouse=True)
def tolerant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client tolerant, and put it back as it was afterwards."""
    monkeypatch.setattr(ContentHeader, "unmarshal", ContentHeader.unmarshal)
    for method in (Basic.Deliver, Basic.GetOk):
        monkeypatch.setattr(method, "_exchange", method._exchange)
        monkeypatch.setattr(method, "_routing_key", method._routing_key)
    tolerate_undecodable()


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_message_that_cannot_be_decoded_is_marked_and_keeps_its_tag_and_the_size_of_its_body(case: str) -> None:
    delivered = _receive(UNREADABLE[case], body_size=5)

    message = IncomingMessage(delivered)

    assert reason_of(delivered) == reason_of(message)
    assert (reason_of(message) or "").startswith("undecodable: ")
    assert (message.delivery_tag, delivered.header.body_size) == (7, 5)
    assert (message.headers, message.correlation_id, message.reply_to, message.type) == ({}, None, None, None)


@pytest.mark.parametrize("case", READABLE)
def test_a_message_that_is_only_odd_is_not_marked(case: str) -> None:
    delivered = _receive(READABLE[case])

    assert reason_of(IncomingMessage(delivered)) is None
    assert reason_of(delivered) is None


def test_a_sender_cannot_mark_a_message() -> None:
    forged = section(headers=table((b"defect", b"S" + struct.pack(">I", 4) + b"mine")))

    message = IncomingMessage(_receive(forged))

    assert message.headers == {"defect": "mine"}
    assert reason_of(message) is None


def test_a_reason_repeats_nothing_that_the_sender_wrote() -> None:
    """It goes to the log, where no personal data may be."""
    secret = b"ada.lovelace@example.com"
    cases = {
        "expiration": section(expiration=short_string(secret)),
        "not UTF-8": section(correlation_id=short_string(secret + NOT_UTF8)),
        "header name": section(headers=table((secret + NOT_UTF8, b"V"))),
    }

    reasons = {case: reason_of(_receive(properties)) for case, properties in cases.items()}

    assert all(reasons.values())
    assert not [reason for reason in reasons.values() if "ada" in (reason or "")]


@given(flags=st.integers(0, 0xFFFF), data=st.binary(max_size=200))
def test_no_bytes_end_the_connection_and_whatever_is_not_marked_makes_a_message(flags: int, data: bytes) -> None:
    delivered = _receive(Section(flags, data))

    message = IncomingMessage(delivered)

    assert message.delivery_tag == 7
    assert reason_of(message) == reason_of(delivered)


_VALUES = st.recursive(
    st.builds(
        lambda letter, data: letter + data,
        st.sampled_from([bytes([each]) for each in range(256)]),
        st.binary(max_size=9),
    ),
    lambda inner: st.builds(
        lambda letter, parts: letter + struct.pack(">I", len(b"".join(parts))) + b"".join(parts),
        st.sampled_from([b"A", b"F", b"S", b"x"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@given(entries=st.lists(st.tuples(st.binary(max_size=12), _VALUES), max_size=5))
def test_no_table_of_headers_ends_the_connection(entries: list[tuple[bytes, bytes]]) -> None:
    message = IncomingMessage(_receive(section(headers=table(*entries))))

    assert message.delivery_tag == 7
    assert all(isinstance(name, str) for name in message.headers)


@pytest.mark.parametrize(
    ("exchange", "routing_key"), [(b"orders", NOT_UTF8), (NOT_UTF8, b"key"), (b"x" * 255, b"y" * 255)]
)
def test_an_exchange_or_a_routing_key_that_is_no_utf8_is_read_as_well_as_it_goes(
    exchange: bytes, routing_key: bytes
) -> None:
    """Neither matters to whoever handles the message, which may be a good one."""
    names = short_string(exchange) + short_string(routing_key)
    tag = struct.pack(">QB", 7, 1)

    _, _, delivered = pamqp.frame.unmarshal(method_frame(60, 60, short_string(b"consumer") + tag + names))
    _, _, got = pamqp.frame.unmarshal(method_frame(60, 71, tag + names + struct.pack(">I", 3)))

    expected = (exchange.decode(errors="replace"), routing_key.decode(errors="replace"))
    assert isinstance(delivered, Basic.Deliver)
    assert isinstance(got, Basic.GetOk)
    assert (delivered.delivery_tag, delivered.redelivered, delivered.consumer_tag) == (7, True, "consumer")
    assert (delivered.exchange, delivered.routing_key) == (got.exchange, got.routing_key) == expected
    assert (got.delivery_tag, got.redelivered, got.message_count) == (7, True, 3)


async def test_the_reader_of_a_connection_goes_on_after_what_it_cannot_decode() -> None:
    """This is where aiormq gives up a connection."""
    stream = asyncio.StreamReader()
    bad, good = header_frame(next(iter(TIMESTAMPS.values())).header(0)), header_frame(section().header(9))
    stream.feed_data(bad + good)
    receiver = FrameReceiver(stream)

    sizes = [(await receiver.get_frame())[2] for _ in range(2)]

    assert [frame.body_size for frame in sizes if isinstance(frame, ContentHeader)] == [0, 9]


@pytest.mark.parametrize("payload", [b"\x00\x3c", struct.pack(">HHI", 60, 0, 0)])
def test_a_header_frame_that_does_not_even_hold_the_size_of_its_body_still_ends_the_connection(payload: bytes) -> None:
    """What follows it in the stream cannot be told any more."""
    with pytest.raises(pamqp.exceptions.UnmarshalingException):
        pamqp.frame.unmarshal(header_frame(payload))


def test_to_make_the_client_tolerant_twice_changes_nothing() -> None:
    once = ContentHeader.unmarshal

    tolerate_undecodable()

    assert ContentHeader.unmarshal is once


@pytest.mark.parametrize(
    "changed",
    [
        ("pamqp.frame._unmarshal_header_frame", lambda _: ContentHeader()),
        ("pamqp.decode.by_type", lambda *_: (1, None)),
    ],
    ids=["headers are decoded elsewhere", "methods are decoded elsewhere"],
)
def test_another_release_of_the_client_is_refused_rather_than_trusted(
    monkeypatch: pytest.MonkeyPatch, changed: tuple[str, Callable[..., Any]]
) -> None:
    monkeypatch.setattr(ContentHeader, "unmarshal", lambda *_: None)
    monkeypatch.setattr(*changed)

    for _ in "a connection", "the next one":
        with pytest.raises(RuntimeError, match="this release of pamqp"):
            tolerate_undecodable()


def _receive(properties: Section, body_size: int = 2) -> DeliveredMessage:
    """Decode a header frame as the connection's reader does, and make the delivery of it that the channel's makes."""
    _, _, header = pamqp.frame.unmarshal(header_frame(properties.header(body_size)))
    assert isinstance(header, ContentHeader)
    channel = object.__new__(aiormq.Channel)
    return DeliveredMessage(Basic.Deliver("consumer", 7, False, "orders", "inventory.check"), header, b"", channel)
