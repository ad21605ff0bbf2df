"""Messages that the client library cannot decode, or should not: delivered with a mark, so that they can be settled.

RabbitMQ passes on what it does not look at. pamqp raises at text that is no UTF-8 and at times beyond the year 9999, and
aiormq then gives up the connection, with every delivery on it; aio-pika raises at a delivery mode of 3 before any callback
is called, so that nobody settles. Yet a frame whose inside is beyond reading still has its place in the stream, its delivery
tag and the size of its body. So here such a message goes its usual way, with no properties and a mark that says why.
"""

import struct
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import aiormq
import pamqp.decode
import pamqp.exceptions
import pamqp.frame
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, DeliveryMode
from aio_pika.message import decode_expiration
from aiormq.abc import DeliveredMessage
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from shared.contract.errors import first_line

LARGEST_HEADER = 32 * 1024
"""Bytes of properties that are decoded: the client's time for a table grows with its square, to over a second at 128 KiB."""

UNDECODABLE, TOO_LARGE = "undecodable", "too_large"

_PREFIX = struct.Struct(">HHQ")
"""What a content header begins with: class, weight and the size of the body."""
_MODES = frozenset({None, 0, *DeliveryMode})
_ANY_SHORT_STRING = "shortstr of any bytes"


class Defect(NamedTuple):
    """Why a delivery holds no message to work with."""

    code: str
    """In one low-cardinality word."""
    detail: str

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class _MarkedHeaders(dict[str, Any]):
    """The headers of a marked message: the one part of it that aio-pika hands on as it is, and that no sender can forge."""

    def __init__(self, defect: Defect, headers: dict[str, Any] | None = None) -> None:
        super().__init__(headers or {})
        self.defect = defect

    def __bool__(self) -> bool:
        return True  # aio-pika would put a dict of its own in the place of empty headers


def defect_of(message: AbstractIncomingMessage | DeliveredMessage) -> Defect | None:
    """Say what is wrong with a message that was consumed or got; None where it can be worked with."""
    headers = message.header.properties.headers if isinstance(message, DeliveredMessage) else message.headers
    return headers.defect if isinstance(headers, _MarkedHeaders) else None


def tolerate_undecodable() -> None:
    """Have the client deliver, with a mark, what it cannot decode, in the whole process from now on; again does no harm.

    Raises RuntimeError for a release of the client in which that has no effect.
    """
    if not getattr(ContentHeader.unmarshal, "is_tolerant", False):
        ContentHeader.unmarshal = _tolerant(ContentHeader.unmarshal)  # type: ignore[assignment, method-assign]
    # Any sender can have a message routed here under an exchange and a key that are no UTF-8; it may be a good one.
    pamqp.decode.METHODS[_ANY_SHORT_STRING] = _decode_any_short_string
    for method in (Basic.Deliver, Basic.GetOk):
        method._exchange = method._routing_key = _ANY_SHORT_STRING
    _require_effect()


async def bound_bodies(channel: AbstractChannel, max_bytes: int) -> None:
    """Discard each body beyond a size as it arrives on a channel, so that it is never in memory, and mark its message.

    Before the channel consumes. Raises RuntimeError for a release of the client in which that has no effect.
    """
    underlay = await channel.get_underlay_channel()
    if not isinstance(underlay, aiormq.Channel) or [*signature(underlay._read_content).parameters] != [
        "frame",
        "header",
    ]:
        raise RuntimeError("this release of aiormq reads bodies in another way: their size cannot be bounded")
    read, next_frame = underlay._read_content, underlay._get_frame

    async def read_bounded(frame: Any, header: ContentHeader) -> DeliveredMessage:
        if header.body_size <= max_bytes:
            return await read(frame, header)
        left = header.body_size
        while left > 0:
            part = await next_frame()
            if not isinstance(part, ContentBody):
                raise aiormq.exceptions.InvalidFrameError(f"a body was expected, not {part!r}")
            left -= len(part)
        properties = header.properties
        if not isinstance(properties.headers, _MarkedHeaders):
            too_large = Defect(TOO_LARGE, f"a body of {header.body_size} bytes, more than {max_bytes}")
            properties.headers = _MarkedHeaders(too_large, properties.headers)
        return DeliveredMessage(frame, header, b"", underlay)

    underlay._read_content = read_bounded  # type: ignore[method-assign]


def _tolerant(decode: Callable[[ContentHeader, bytes], None]) -> Callable[[ContentHeader, bytes], None]:
    def unmarshal(header: ContentHeader, data: bytes) -> None:
        try:
            if len(data) > LARGEST_HEADER:
                raise ValueError(f"properties of {len(data)} bytes")
            decode(header, data)
            _require_usable(header.properties)
        except Exception as error:  # a RecursionError and an OverflowError are among what pamqp raises
            header.class_id, header.weight, header.body_size = _PREFIX.unpack_from(data)
            defect = Defect(UNDECODABLE, f"{type(error).__name__}: {first_line(error)}")
            header.properties = Basic.Properties(headers=_MarkedHeaders(defect))

    unmarshal.is_tolerant = True  # type: ignore[attr-defined]
    return unmarshal


def _require_usable(properties: Basic.Properties) -> None:
    """Raise ValueError for values of which aio-pika makes no message."""
    if properties.delivery_mode not in _MODES:
        raise ValueError(f"a delivery mode of {properties.delivery_mode}")
    if properties.expiration is not None:
        try:
            decode_expiration(properties.expiration)
        except ValueError:
            raise ValueError("an expiration that is no number") from None  # the text is the sender's, and not for a log


def _decode_any_short_string(value: bytes) -> tuple[int, str]:
    end = 1 + value[0]
    return end, value[1:end].decode(errors="replace")


def _require_effect() -> None:
    """Try it on a delivery mode of 3, and on a routing key that is no UTF-8."""
    header = _PREFIX.pack(60, 0, 0) + b"\x10\x00\x03"
    deliver = struct.pack(">HH", 60, 60) + b"\x01c" + bytes(9) + b"\x00\x01\xff"
    try:
        *_, read = pamqp.frame.unmarshal(struct.pack(">BHI", 2, 1, len(header)) + header + b"\xce")
        pamqp.frame.unmarshal(struct.pack(">BHI", 1, 1, len(deliver)) + deliver + b"\xce")
        is_marked = isinstance(read, ContentHeader) and isinstance(read.properties.headers, _MarkedHeaders)
    except pamqp.exceptions.PAMQPException:
        is_marked = False
    if not is_marked:
        raise RuntimeError("this release of pamqp decodes in another way: one message would end the connection")
