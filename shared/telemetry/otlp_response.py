"""What a response over OTLP/HTTP means for the batch that was sent: pure decisions, which the sender carries out.

The rules are those of https://opentelemetry.io/docs/specs/otlp/#otlphttp-response, but for one thing: what it calls not
retryable without blaming the request (401, 403, 408, and 5xx other than 502 to 504) is tried again too, since it goes away with
the fault of a gateway or a password that is put right, and telemetry that waits costs nobody anything.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from .target import shown_url

_TRIED_AGAIN = frozenset({401, 403, 408, 425, 429})
_OF_THE_BACKEND = frozenset({502, 503, 504})
_SAME_AGAIN = frozenset({307, 308})
"""Redirects that keep method and body; a POST that is redirected otherwise would arrive as a GET, with nothing in it."""


class Fate(Enum):
    """What becomes of a batch after an attempt."""

    DELIVERED = auto()
    REFUSED = auto()
    """For good: the backend will never take this batch, and may take the next."""
    WAITS = auto()
    """For another attempt."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt went."""

    fate: Fate
    status: int | None = None
    """None where there was no response."""
    cause: str = ""
    """Why it was not delivered, for a person."""
    retry_after: float | None = None
    """Seconds that the backend asks to be left alone."""
    rejected: int = 0
    """How many of a batch that was delivered the backend did not take."""

    @property
    def may_be_the_batch(self) -> bool:
        """Whether an attempt that may be repeated failed of what may be this very batch, rather than of the backend."""
        return self.status is not None and self.status >= 500 and self.status not in _OF_THE_BACKEND


def classify(status: int, headers: Mapping[str, str] | None = None, now: float | None = None) -> Attempt:
    """Say what a status means for the batch that it was the response to; `now` is in seconds since the epoch."""
    cause = f"{status} {_phrase(status)}".strip()
    if 200 <= status < 300:
        if (headers or {}).get("Content-Type", "").startswith("text/html"):
            return Attempt(Fate.WAITS, status, f"{cause} with a web page, which no OTLP endpoint answers with")
        return Attempt(Fate.DELIVERED, status)
    if 300 <= status < 400:
        location = (headers or {}).get("Location")
        where = f" to {shown_url(location)}" if location else ""
        return Attempt(Fate.WAITS, status, f"{cause}{where}, a redirect that is not followed")
    if status in _TRIED_AGAIN or status >= 500:
        seconds = _seconds((headers or {}).get("Retry-After", ""), time.time() if now is None else now)
        return Attempt(Fate.WAITS, status, cause, seconds)
    return Attempt(Fate.REFUSED, status, cause)


def redirected(status: int, location: str | None, url: str) -> str | None:
    """Give the URL that the same request may be sent to again: on the same host, and never from TLS to plain text."""
    if status not in _SAME_AGAIN or not location:
        return None
    new = urljoin(url, location)
    was, becomes = urlsplit(url), urlsplit(new)
    is_safe = becomes.hostname == was.hostname and (becomes.scheme, was.scheme) != ("http", "https")
    return new if is_safe and becomes.scheme in {"http", "https"} else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _seconds(retry_after: str, now: float) -> float | None:
    """Read a Retry-After header: seconds or a date; None for anything else."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None
