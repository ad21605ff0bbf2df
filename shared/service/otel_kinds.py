"""The kinds of values that `OTEL_*` variables take: what each takes, how it is read, and what of it cannot be kept.

This imports nothing of OpenTelemetry, which reads some of its variables as it is imported: they are put right before that.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

MOST = 2**31 - 1
"""The largest whole number that every implementation reads; a larger one overflows queues and clocks here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of a value, in its canonical form; `wrong` is a clause that says what is not, and why."""

    kept: str
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of values; `takes` completes "it takes ..."."""

    takes: str
    read: Callable[[str], Reading]


def whole_number(least: int, unit: str = "") -> Kind:
    """A number of so many, or of milliseconds and the like, as `unit` says."""
    takes = f"a whole number{f' of {unit}' if unit else ''} from {least} to {MOST}"

    def read(value: str) -> Reading:
        is_number = re.fullmatch("[0-9]{1,10}", value) is not None
        return Reading(str(int(value))) if is_number and least <= int(value) <= MOST else _nothing(takes)

    return Kind(takes, read)


def one_of(*values: str, but: str = "") -> Kind:
    """An enumeration, in whatever case; `but` says what there is beyond that is not spoken here."""
    takes = f"{' or '.join(values)}{f'; {but}' if but else ''}"

    def read(value: str) -> Reading:
        return Reading(value.lower()) if value.lower() in values else _nothing(takes)

    return Kind(takes, read)


def installed(group: str, *without: str) -> Kind:
    """Names of what packages offer as entry points, with commas between them; `without` are words that name none."""
    takes = f"names of what is installed, with commas between them{''.join(f', or {word}' for word in without)}"

    def read(value: str) -> Reading:
        names = list(dict.fromkeys(_parts(value)))
        known = {entry.name for entry in entry_points(group=group)} | set(without)
        kept = [name if name in known else name.lower() for name in names if {name, name.lower()} & known]
        missing = sorted(name for name in names if not {name, name.lower()} & known)
        return Reading(",".join(kept), f"{', '.join(map(repr, missing))} is not installed" if missing else "")

    return Kind(takes, read)


def pairs(of_what: str, is_valid: Callable[[str, str], bool] = lambda _name, _value: True) -> Kind:
    """Pairs of a name and a value with %-escapes; neither is repeated in what is said, for headers hold keys."""
    takes = f"{of_what} as name=value, with commas between them"

    def read(value: str) -> Reading:
        parts = _parts(value)
        kept = [part for part in parts if _is_pair(part, is_valid)]
        wrong = f"{len(parts) - len(kept)} of {len(parts)} parts are not name=value" if len(kept) < len(parts) else ""
        return Reading(",".join(kept), wrong)

    return Kind(takes, read)


_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def is_header(name: str, value: str) -> bool:
    """Tell whether HTTP can carry it."""
    is_sendable = value.isprintable() and all(ord(letter) < 256 for letter in value)
    return _TOKEN.fullmatch(name) is not None and is_sendable


def _is_pair(part: str, is_valid: Callable[[str, str], bool]) -> bool:
    name, equals, value = part.partition("=")
    return bool(equals and name.strip()) and is_valid(name.strip(), unquote(value.strip()))


def _read_address(value: str) -> Reading:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    return Reading(value) if is_address and value.isprintable() and " " not in value else _nothing(ADDRESS.takes)


def _read_file(value: str) -> Reading:
    try:
        with Path(value).open("rb"):
            return Reading(value)
    except (OSError, ValueError):
        return Reading("", f"there is no file {value!r} that can be read")


def _read_share(value: str) -> Reading:
    try:
        share = float(value)
    except ValueError:
        return _nothing(SHARE.takes)
    return Reading(value) if 0.0 <= share <= 1.0 else _nothing(SHARE.takes)


def _nothing(takes: str) -> Reading:
    return Reading("", f"it takes {takes}")


def _parts(value: str) -> list[str]:
    return [part for part in map(str.strip, value.split(",")) if part]


ANY = Kind("any text", Reading)
ADDRESS = Kind("the address of a server, http://HOST:PORT or https://HOST:PORT", _read_address)
FILE = Kind("the name of a file", _read_file)
SHARE = Kind("a number from 0 to 1", _read_share)
BOOLEAN = one_of("true", "false")


def without_effect(why: str) -> Kind:
    """A variable of the standard that changes nothing here."""
    return Kind(f"nothing: {why}", lambda _: Reading("", f"it has no effect here: {why}"))
