"""The protobuf wire format as far as OTLP needs it: fields, and attributes with their values.

Field numbers are those of opentelemetry/proto/common/v1/common.proto. A tag is the field's number and wire type, as bytes.
"""

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_log = logging.getLogger(__name__)
_fixed64 = struct.Struct("<Q").pack
_double = struct.Struct("<d").pack
_INT64 = range(-(2**63), 2**63)


def _long_varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_VARINTS = [_long_varint(number) for number in range(2048)]

MOST_TEXTS, LONGEST_TEXT = 4096, 64


class Attributes:
    """Writes attributes, each as `clean` gives it from its name and value."""

    def __init__(self, clean: Callable[[str, Any], Any] | None = None) -> None:
        self._clean = clean
        self._texts: dict[tuple[str, str], bytes] = {}
        """Clean texts as they go on the wire. Most are the same on every span and get in early; then ids fill it up."""

    def fields(self, tag: bytes, attributes: Mapping[str, Any] | None) -> list[bytes]:
        """Write each attribute that can be encoded, as a field of its own."""
        if not attributes:
            return []
        encoded = []
        # The SDK's mapping takes a lock for each key it is asked for, and one for a copy.
        plain = attributes.copy() if hasattr(attributes, "copy") else attributes
        for key, value in plain.items():
            try:
                content = self._key_value(key, value)
            except (TypeError, ValueError, OverflowError):
                _log.warning("attribute %r cannot be encoded", key)
            else:
                encoded.append(tag + varint(len(content)) + content)
        return encoded

    def _key_value(self, key: str, value: Any) -> bytes:
        if type(value) is not str:
            return _key_value(key, value if self._clean is None else self._clean(key, value))
        content = self._texts.get((key, value))
        if content is None:
            clean = value if self._clean is None else self._clean(key, value)
            content = _key_value(key, clean)
            if clean is value and len(self._texts) < MOST_TEXTS and len(value) <= LONGEST_TEXT:
                self._texts[key, value] = content
        return content


def _key_value(key: str, value: Any) -> bytes:
    return message(b"\x0a", key.encode()) + message(b"\x12", _any_value(value))


def _any_value(value: Any) -> bytes:
    if isinstance(value, str):
        return message(b"\x0a", value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if value not in _INT64:
            raise OverflowError(f"{value} has more than 64 bits")
        return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return message(b"\x3a", value)
    if isinstance(value, Sequence):
        return message(b"\x2a", b"".join([message(b"\x0a", _any_value(each)) for each in value]))
    if isinstance(value, Mapping):
        pairs = [message(b"\x0a", _key_value(str(key), each)) for key, each in value.items()]
        return message(b"\x32", b"".join(pairs))
    raise TypeError(f"{type(value)} is no attribute value")


def message(tag: bytes, content: bytes) -> bytes:
    """Write a field whose content has a length: a message, a text, bytes."""
    return tag + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Write a number in as many bytes as it needs, seven bits each."""
    return _VARINTS[number] if number < len(_VARINTS) else _long_varint(number)


def text_field(tag: bytes, text: str | None) -> bytes:
    """Write a text; nothing for none."""
    return message(tag, text.encode()) if text else b""


def time_field(tag: bytes, nanoseconds: int | None) -> bytes:
    """Write a time since the epoch; nothing for none."""
    return tag + _fixed64(nanoseconds) if nanoseconds else b""


def count_field(tag: bytes, number: int) -> bytes:
    """Write a count; nothing for zero."""
    return tag + varint(number) if number else b""
