"""Keeps personal data out of what is exported: one processor, in front of every span exporter."""

import re
from collections.abc import Mapping, Set
from functools import partial

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import Status
from opentelemetry.util import types

from .ended_spans import RewritingProcessor, copy_of

MASK = "[redacted]"

_PERSONAL_NAMES = frozenset(
    {"email", "customer", "customer.id", "customer.email", "user.id", "user.email", "client.address", "enduser.id"}
)
_QUERY = "url.query"
_EMAIL = re.compile(r"[\w.+%!#$'*^`{|}~\-]{1,64}(?:@|%40)[\w\-]{1,63}(?:\.[\w\-]{1,63})+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Mask every e-mail address in a text."""
    return _EMAIL.sub(MASK, text) if "@" in text or "%40" in text else text


def _redact_query(query: str, kept: Set[str]) -> str:
    """Mask the values of a query string: what callers add to the parameters that there are is their own data."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}={value if name in kept else MASK}" if equals else name for name, equals, value in pairs)


def _redact(
    attributes: Mapping[str, types.AttributeValue], kept_in_queries: Set[str]
) -> Mapping[str, types.AttributeValue]:
    """Give the attributes without personal data; the very same mapping where there is none."""
    masked: dict[str, types.AttributeValue] = {}
    for name, value in attributes.items():
        if name in _PERSONAL_NAMES:
            masked[name] = MASK
        elif isinstance(value, str):
            if (text := redact_text(_redact_query(value, kept_in_queries) if name == _QUERY else value)) != value:
                masked[name] = text
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            texts = tuple(redact_text(str(part)) for part in value)
            if texts != value:
                masked[name] = texts
    return {**attributes, **masked} if masked else attributes


class RedactionProcessor(RewritingProcessor):
    """Hands each ended span on, replaced by a masked copy where it holds personal data.

    `kept_in_queries` names the query parameters whose values are the application's own and stay readable.
    """

    def __init__(self, following: SpanProcessor, kept_in_queries: Set[str] = frozenset()) -> None:
        super().__init__(partial(_redacted, kept_in_queries), following)


def _redacted(kept_in_queries: Set[str], span: ReadableSpan) -> ReadableSpan:
    """Give the span itself, or a copy of it without the personal data in its name, attributes, events and status."""
    name = redact_text(span.name)
    found = span.attributes or {}
    attributes = _redact(found, kept_in_queries)
    events = [_redact_event(event, kept_in_queries) for event in span.events]
    status = _redact_status(span.status)
    if (
        name == span.name
        and attributes is found
        and status is span.status
        and all(a is b for a, b in zip(events, span.events, strict=True))
    ):
        return span
    return copy_of(span, name=name, attributes=attributes, events=events, status=status)


def _redact_event(event: Event, kept_in_queries: Set[str]) -> Event:
    attributes = event.attributes or {}
    masked = _redact(attributes, kept_in_queries)
    return event if masked is attributes else Event(event.name, masked, event.timestamp)


def _redact_status(status: Status) -> Status:
    masked = redact_text(status.description or "")
    return status if masked == (status.description or "") else Status(status.status_code, masked)
