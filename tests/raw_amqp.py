"""AMQP written byte by byte: what no client library would send, although a broker takes it and passes it on."""

import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

_BITS = {
    "content_type": 15,
    "content_encoding": 14,
    "headers": 13,
    "delivery_mode": 12,
    "priority": 11,
    "correlation_id": 10,
    "reply_to": 9,
    "expiration": 8,
    "message_id": 7,
    "timestamp": 6,
    "type": 5,
    "user_id": 4,
    "app_id": 3,
    "cluster_id": 2,
}
"""The properties in their order on the wire, each with its bit in the flags."""

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC = 60
_LARGEST_FRAME = 131_072


class Refused(Exception):
    """The broker did not take it, and has closed the channel or the connection; the message says why."""


def short_string(value: bytes) -> bytes:
    """Write up to 255 bytes with their length."""
    return bytes([len(value)]) + value


def long_string(value: bytes) -> bytes:
    """Write bytes with a length of four bytes, as tables and arrays have it, too."""
    return struct.pack(">I", len(value)) + value


def table(*entries: tuple[bytes, bytes]) -> bytes:
    """Write a table of names and values; each value begins with the letter of its type."""
    return long_string(b"".join(short_string(name) + value for name, value in entries))


@dataclass(frozen=True)
class Section:
    """The property section of a message: the flags, and after them whatever bytes."""

    flags: int
    data: bytes

    def header(self, body_size: int) -> bytes:
        """Write the payload of the content header frame."""
        return struct.pack(">HHQH", _BASIC, 0, body_size, self.flags) + self.data


def section(**properties: bytes) -> Section:
    """Put encoded properties in their order, under the flags that announce them."""
    ordered = sorted(properties, key=_BITS.__getitem__, reverse=True)
    return Section(sum(1 << _BITS[name] for name in ordered), b"".join(properties[name] for name in ordered))


def header_frame(payload: bytes) -> bytes:
    """Write a whole content header frame, as the broker would send it."""
    return _frame(_HEADER, 1, payload)


def method_frame(class_id: int, method_id: int, arguments: bytes) -> bytes:
    """Write a whole method frame, as the broker would send it."""
    return _frame(_METHOD, 1, struct.pack(">HH", class_id, method_id) + arguments)


class RawPublisher:
    """A connection with one channel in confirm mode; a context manager. Nothing that is published is looked at."""

    def __init__(self, amqp_url: str) -> None:
        url = urlsplit(amqp_url)
        self._socket = socket.create_connection((url.hostname, url.port or 5672), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._wait_for(10, 10)
        login = f"\0{unquote(url.username or 'guest')}\0{unquote(url.password or 'guest')}".encode()
        self._call(0, 10, 11, table() + short_string(b"PLAIN") + long_string(login) + short_string(b"en_US"))
        self._wait_for(10, 30)
        self._call(0, 10, 31, struct.pack(">HIH", 2047, _LARGEST_FRAME, 0))
        self._call(0, 10, 40, short_string(unquote(url.path[1:]).encode() or b"/") + b"\0\0")
        self._wait_for(10, 41)
        self._call(1, 20, 10, b"\0")
        self._wait_for(20, 11)
        self._call(1, 85, 10, b"\0")
        self._wait_for(85, 11)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def publish(self, exchange: str, routing_key: bytes, properties: Section, body: bytes = b"{}") -> None:
        """Publish and wait for the confirm; raises Refused."""
        self._call(1, _BASIC, 40, b"\0\0" + short_string(exchange.encode()) + short_string(routing_key) + b"\0")
        room = _LARGEST_FRAME - 8
        content = [_frame(_BODY, 1, body[start : start + room]) for start in range(0, len(body), room)]
        self._socket.sendall(_frame(_HEADER, 1, properties.header(len(body))) + b"".join(content))
        self._wait_for(_BASIC, 80)

    def _call(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> None:
        self._socket.sendall(_frame(_METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments))

    def _wait_for(self, class_id: int, method_id: int) -> None:
        while True:
            kind, _, size = struct.unpack(">BHI", self._read(7))
            payload = self._read(size + 1)[:-1]
            if kind != _METHOD:
                continue
            found = struct.unpack(">HH", payload[:4])
            if found == (class_id, method_id):
                return
            if found in {(10, 50), (20, 40)}:
                length = payload[6]
                # It quotes what it refuses, whatever bytes those are.
                raise Refused(payload[7 : 7 + length].decode(errors="backslashreplace"))
            if found == (_BASIC, 120):
                raise Refused("the broker has not taken it")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise Refused("the broker has closed the connection")
            data += part
        return data


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"
