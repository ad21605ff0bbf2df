"""The dead letters, for people: look at them, send them in again, or drop them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, QueueEmpty
from opentelemetry import trace
from opentelemetry.trace import Link

from shared.contract import topology
from shared.contract.messages import (
    DEAD_LETTER_ATTEMPTS_HEADER,
    DEAD_LETTER_DETAIL_HEADER,
    DEAD_LETTER_ORIGIN_HEADER,
    DEAD_LETTER_REASON_HEADER,
    PUBLISHED_AT_HEADER,
)
from shared.rabbit import broker
from shared.telemetry import semconv
from shared.telemetry.redaction import redact_text
from shared.telemetry.relations import PREVIOUS_ATTEMPT_HEADER, REPLAY_HEADER
from shared.telemetry.semconv import LinkReason
from shared.telemetry.trace_context import span_context_of, trace_id_of

CONNECT_SECONDS = 5.0
SHOWN_BODY = 2000
"""Characters of a body that are shown."""

_tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)


class DeadLetterError(Exception):
    """The broker is not there or has no such dead letter; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A check that nobody could handle, and why."""

    id: str
    order_id: str | None
    reason: str
    detail: str
    origin: str
    attempts: int
    died_at: str | None
    trace_id: str | None
    type: str | None
    body: str


async def find(amqp_url: str, limit: int) -> list[DeadLetter]:
    """Give the oldest dead letters, and leave them where they are."""
    async with _channel(amqp_url) as channel:
        return [_describe(message) async for message in _take(channel, limit)]


async def replay(amqp_url: str, is_chosen: Callable[[str], bool], limit: int) -> list[DeadLetter]:
    """Send the chosen dead letters in again, each in a new trace that links to where it died; gives those sent."""
    replayed = []
    async with _channel(amqp_url) as channel:
        exchange = await channel.get_exchange(topology.ORDERS_EXCHANGE, ensure=False)
        async for message in _take(channel, limit):
            if not is_chosen(message.message_id or ""):
                continue
            died_in = span_context_of(_text(message, PREVIOUS_ATTEMPT_HEADER) or _text(message, "traceparent"))
            links = [] if died_in is None else [Link(died_in, {semconv.LINK_REASON: LinkReason.REPLAY_OF.value})]
            with _tracer.start_as_current_span(f"replay {topology.DEAD_LETTERS}", links=links):
                # Confirmed before the dead letter is settled: a crash between the two replays it twice, and a check that
                # comes twice takes its stock once.
                await exchange.publish(_copy(message), topology.INVENTORY_CHECK, mandatory=True)
            await message.ack()
            replayed.append(_describe(message))
    return replayed


async def drop(amqp_url: str, is_chosen: Callable[[str], bool], limit: int) -> list[DeadLetter]:
    """Throw the chosen dead letters away; gives those thrown away."""
    dropped = []
    async with _channel(amqp_url) as channel:
        async for message in _take(channel, limit):
            if is_chosen(message.message_id or ""):
                await message.ack()
                dropped.append(_describe(message))
    return dropped


@asynccontextmanager
async def _channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """Open a channel; what was taken from a queue and not settled returns to it when the channel ends."""
    try:
        connection = await aio_pika.connect(amqp_url.split(",")[0], timeout=CONNECT_SECONDS)
    except (AMQPError, OSError, TimeoutError) as error:
        raise DeadLetterError(f"There is no RabbitMQ at AMQP_URL ({error}).") from error
    async with connection:
        try:
            yield await connection.channel(publisher_confirms=True, on_return_raises=True)
        except AMQPError as error:
            raise DeadLetterError(f"RabbitMQ refuses: {error}.") from error


async def _take(channel: AbstractChannel, limit: int) -> AsyncIterator[AbstractIncomingMessage]:
    queue = await channel.get_queue(topology.DEAD_LETTERS, ensure=False)
    for _ in range(limit):
        try:
            yield await queue.get(timeout=CONNECT_SECONDS)
        except QueueEmpty:
            return


def _copy(message: AbstractIncomingMessage) -> Message:
    """Write the check anew: no failures counted, answered to whichever API is there."""
    died_in = _text(message, PREVIOUS_ATTEMPT_HEADER) or _text(message, "traceparent")
    return broker.message(
        message.body,
        type=message.type or "",
        correlation_id=message.correlation_id,
        reply_to=topology.SHARED_REPLIES,
        headers={REPLAY_HEADER: died_in} if died_in else None,
    )


def _describe(message: AbstractIncomingMessage) -> DeadLetter:
    attempts = message.headers.get(DEAD_LETTER_ATTEMPTS_HEADER)
    died_at = message.headers.get(PUBLISHED_AT_HEADER)
    return DeadLetter(
        id=message.message_id or "",
        order_id=message.correlation_id,
        # Without a stamp of ours it was the broker that gave up on it, and says so in a header of its own.
        reason=_text(message, DEAD_LETTER_REASON_HEADER) or _text(message, "x-first-death-reason") or "unknown",
        detail=_text(message, DEAD_LETTER_DETAIL_HEADER) or "",
        origin=_text(message, DEAD_LETTER_ORIGIN_HEADER) or _text(message, "x-first-death-queue") or "unknown",
        attempts=attempts if isinstance(attempts, int) else topology.DELIVERY_LIMIT,
        died_at=_time(died_at),
        trace_id=trace_id_of(_text(message, PREVIOUS_ATTEMPT_HEADER) or _text(message, "traceparent")),
        type=message.type,
        body=redact_text(message.body.decode(errors="backslashreplace"))[:SHOWN_BODY],
    )


def _text(message: AbstractIncomingMessage, header: str) -> str | None:
    value: Any = message.headers.get(header)
    return value if isinstance(value, str) and value else None


def _time(microseconds: Any) -> str | None:
    if not isinstance(microseconds, int) or not 0 < microseconds < 2**53:
        return None
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")
