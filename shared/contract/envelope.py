"""The envelope of a message: the headers and properties around its body, written in one place and read without trust."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

CONTENT_TYPE: Final = "application/json"

PUBLISHED_AT_HEADER: Final = "x-published-at-us"
"""Microseconds since the epoch: the AMQP timestamp has only seconds, too coarse for a time in queue."""
ASKED_AT_HEADER: Final = "x-asked-at-us"
"""On a reply: when the check that it replies to was published, in microseconds since the epoch."""
FAILURES_HEADER: Final = "x-failures"
"""How often the handling of this message has failed so far."""

DEATH_REASON_HEADER: Final = "x-dead-letter-reason"
DEATH_DETAIL_HEADER: Final = "x-dead-letter-detail"
DEATH_ORIGIN_HEADER: Final = "x-dead-letter-origin"
DEATH_ATTEMPTS_HEADER: Final = "x-dead-letter-attempts"

BROKERS_COUNT_HEADER: Final = "x-delivery-count"
BROKERS_COUNTS: Final = frozenset({BROKERS_COUNT_HEADER, "x-acquired-count"})
"""Headers in which the broker counts the looks at a message: all else of it stays as it was written."""
BROKERS_REASON_HEADER: Final = "x-first-death-reason"
BROKERS_ORIGIN_HEADER: Final = "x-first-death-queue"

LARGEST_COUNT = 1_000_000
"""A count beyond it is a stranger's invention."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message says of itself; whatever is not as it should be is read as not there."""

    type: str | None
    correlation_id: str | None
    reply_to: str | None
    published_at: float | None
    """Seconds since the epoch."""
    asked_at: float | None
    """On a reply: when the check was published, in seconds since the epoch."""
    failures: int
    """How often its handling has failed and been retried."""
    redeliveries: int
    """How often it was delivered before and never settled."""
    is_redelivered: bool

    @property
    def attempt(self) -> int:
        """Count the deliveries so far, this one included: our retries and the broker's redeliveries."""
        return 1 + self.failures + self.redeliveries


@dataclass(frozen=True, slots=True)
class Death:
    """Why and where a message became a dead letter."""

    reason: str
    detail: str
    origin: str
    attempts: int | None
    """None where it was the broker that gave up on it, which does not say."""


def read(message: AbstractIncomingMessage) -> Envelope:
    """Read the envelope of a delivery."""
    is_redelivered = bool(message.redelivered)
    return Envelope(
        type=message.type,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        published_at=_seconds(message.headers, PUBLISHED_AT_HEADER),
        asked_at=_seconds(message.headers, ASKED_AT_HEADER),
        failures=_count(message.headers, FAILURES_HEADER),
        # On a first delivery the header is not the broker's, but whatever its sender wrote.
        redeliveries=_count(message.headers, BROKERS_COUNT_HEADER) if is_redelivered else 0,
        is_redelivered=is_redelivered,
    )


def read_death(headers: Mapping[str, Any]) -> Death:
    """Read why a dead letter died: from our stamp, or where it has none from what the broker says."""
    attempts = headers.get(DEATH_ATTEMPTS_HEADER)
    return Death(
        reason=_text(headers, DEATH_REASON_HEADER) or _text(headers, BROKERS_REASON_HEADER) or "unknown",
        detail=_text(headers, DEATH_DETAIL_HEADER) or "",
        origin=_text(headers, DEATH_ORIGIN_HEADER) or _text(headers, BROKERS_ORIGIN_HEADER) or "unknown",
        attempts=attempts if type(attempts) is int else None,
    )


def message(
    body: bytes,
    *,
    type: str,  # noqa: A002 - the name of the AMQP property
    correlation_id: str | None,
    reply_to: str | None = None,
    asked_at: float | None = None,
    failures: int = 0,
    death: Death | None = None,
    relations: Mapping[str, str] | None = None,
) -> Message:
    """Write a persistent message, with headers of its own: two messages that share them would share a traceparent.

    `relations` are headers that name what its process span is to link to.
    """
    now = time.time_ns()
    headers: dict[str, Any] = {**(relations or {}), PUBLISHED_AT_HEADER: now // 1000}
    if asked_at is not None:
        headers[ASKED_AT_HEADER] = int(asked_at * 1e6)
    if failures:
        headers[FAILURES_HEADER] = failures
    if death is not None:
        headers |= {
            DEATH_REASON_HEADER: death.reason,
            DEATH_DETAIL_HEADER: death.detail,
            DEATH_ORIGIN_HEADER: death.origin,
            DEATH_ATTEMPTS_HEADER: death.attempts,
        }
    return Message(
        body,
        type=type,
        message_id=uuid4().hex,
        correlation_id=correlation_id,
        reply_to=reply_to,
        timestamp=datetime.fromtimestamp(now // 1_000_000_000, UTC),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=headers,
    )


def published_at(written: Message) -> float:
    """Give the time that a message was written with, in seconds since the epoch."""
    return int(written.headers[PUBLISHED_AT_HEADER]) / 1e6  # type: ignore[arg-type] # written above


def _seconds(headers: Mapping[str, Any], name: str) -> float | None:
    microseconds = headers.get(name)
    return microseconds / 1e6 if type(microseconds) is int else None


def _count(headers: Mapping[str, Any], name: str) -> int:
    count = headers.get(name)
    return count if type(count) is int and 0 < count < LARGEST_COUNT else 0


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) and value else None
