"""Property sections of every kind that a stranger may send, by what is odd about them."""

import struct

from shared.contract.messages import CHECK_TYPE
from tests.raw_amqp import Section, long_string, section, short_string, table

NOT_UTF8 = b"\xff\xfe\x80"
MICROSECONDS = 1_764_000_000_000_000
"""A time in November 2025, from a sender that counts in microseconds."""
_TYPE = short_string(CHECK_TYPE.encode())


def _unsigned(value: int) -> bytes:
    return struct.pack(">Q", value)


def _nested(letter: bytes, depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = letter + long_string(value if letter == b"A" else short_string(b"n") + (value or b"V"))
    return value


def with_header(value: bytes, name: bytes = b"odd") -> Section:
    """Give a section with one header, whose value begins with the letter of its type."""
    return section(headers=table((name, value)), type=_TYPE)


SHORT_STRINGS = {
    f"{name} that is no UTF-8": section(**{"type": _TYPE, name: short_string(NOT_UTF8)})
    for name in (
        "content_type",
        "content_encoding",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "type",
        "user_id",
        "app_id",
        "cluster_id",
    )
}
TIMESTAMPS = {
    f"timestamp of {value}": section(timestamp=_unsigned(value), type=_TYPE)
    for value in (MICROSECONDS, MICROSECONDS * 1000, 2**63 - 1, 2**63, 2**64 - 1)
}
MODES = {f"delivery mode {mode}": section(delivery_mode=bytes([mode]), type=_TYPE) for mode in (3, 4, 127, 128, 255)}
EXPIRATIONS = {
    f"expiration {value!r}": section(expiration=short_string(value), type=_TYPE)
    for value in (b"", b"soon", b"-1", b"1.5", b"nan", b"1 ", b"99999999999999999999")
}
HEADERS = {
    "header name that is no UTF-8": with_header(b"t\x01", NOT_UTF8),
    "header name in a nested table that is no UTF-8": with_header(b"F" + table((NOT_UTF8, b"V"))),
    "header timestamp in microseconds": with_header(b"T" + _unsigned(MICROSECONDS)),
    "header timestamp in an array": with_header(b"A" + long_string(b"T" + _unsigned(2**64 - 1))),
    **{
        f"header of the unknown type {chr(letter)}": with_header(bytes([letter]) + b"\0" * 8)
        for letter in b"CEGHJKMNOPQRUWXYZaceghjkmnopqrvwyz"
    },
    "headers nested a thousand arrays deep": with_header(_nested(b"A", 1000)),
    "headers nested a thousand tables deep": with_header(_nested(b"F", 1000)),
    "headers of 120 kB": with_header(b"A" + long_string(b"V" * 120_000)),
    "header array longer than its table": with_header(b"A" + struct.pack(">I", 5000) + b"V"),
    "header table longer than its table": with_header(b"F" + struct.pack(">I", 5000) + b"\x01aV"),
    "header string longer than its table": with_header(b"S" + struct.pack(">I", 5000) + b"text"),
    "header of four gigabytes": with_header(b"S" + struct.pack(">I", 2**32 - 1)),
    "header name longer than its table": section(headers=long_string(b"\xffname"), type=_TYPE),
    "header without a value": section(headers=long_string(b"\x01n"), type=_TYPE),
    "header whose number is cut off": section(headers=table((b"n", b"I\x00")), type=_TYPE),
    "header decimal with 255 places": with_header(b"D\xff\x7f\xff\xff\xff"),
    "header that is not a number": with_header(b"d\x7f\xf8" + b"\0" * 6),
    "headers longer than the section": section(headers=struct.pack(">I", 9000), type=b""),
}
FRAMING = {
    "section cut off before its last property": Section(section(type=b"").flags, b""),
    "section cut off in a string": section(type=b"\xffshort"),
    "section cut off in a timestamp": section(timestamp=b"\x00\x00"),
    "flags that go on without end": Section(1, b""),
    "flags of a second word": Section(1, b"\x80\x00"),
    "every flag and no property": Section(0xFFFE, b""),
    "flag of no property": Section(2, b""),
    "bytes after the last property": section(type=_TYPE + b"more"),
}
ALL = SHORT_STRINGS | TIMESTAMPS | MODES | EXPIRATIONS | HEADERS | FRAMING

_NUMBERS = [f"expiration {value!r}" for value in (b"-1", b"1.5", b"nan", b"1 ", b"99999999999999999999")]
READABLE = {
    case: ALL[case]
    for case in (
        *_NUMBERS,
        "header decimal with 255 places",
        "header that is not a number",
        # RabbitMQ lets none of these pass; what is cut off, the client takes as far as it goes.
        "header string longer than its table",
        "header of four gigabytes",
        "header whose number is cut off",
        "section cut off in a string",
        "flags of a second word",
        "flag of no property",
        "bytes after the last property",
    )
}
UNREADABLE = {case: properties for case, properties in ALL.items() if case not in READABLE}
