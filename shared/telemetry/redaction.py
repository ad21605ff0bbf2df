"""Keeps personal data out of what is exported: one processor, in front of every span exporter."""

import re
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status
from opentelemetry.util import types

MASK = "[redacted]"

_PERSONAL_NAMES = frozenset(
    {"email", "customer", "customer.id", "customer.email", "user.id", "user.email", "client.address", "enduser.id"}
)
_EMAIL = re.compile(r"[\w.+%\-]{1,64}(?:@|%40)[\w\-]{1,63}(?:\.[\w\-]{1,63})+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Mask every e-mail address in a text."""
    return _EMAIL.sub(MASK, text) if "@" in text or "%40" in text else text


def _redact(attributes: Mapping[str, types.AttributeValue]) -> Mapping[str, types.AttributeValue]:
    """Give the attributes without personal data; the very same mapping where there is none."""
    masked: dict[str, types.AttributeValue] = {}
    for name, value in attributes.items():
        if name in _PERSONAL_NAMES:
            masked[name] = MASK
        elif isinstance(value, str):
            if (text := redact_text(value)) != value:
                masked[name] = text
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            texts = tuple(redact_text(str(part)) for part in value)
            if texts != value:
                masked[name] = texts
    return {**attributes, **masked} if masked else attributes


class RedactionProcessor(SpanProcessor):
    """Hands each ended span on, replaced by a masked copy where it holds personal data."""

    def __init__(self, following: SpanProcessor) -> None:
        self._following = following

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass on: nothing is exported yet."""
        self._following.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand on the span or its masked copy."""
        self._following.on_end(redacted(span))

    def shutdown(self) -> None:
        """Shut the following processor down."""
        self._following.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the following processor."""
        return self._following.force_flush(timeout_millis)


def redacted(span: ReadableSpan) -> ReadableSpan:
    """Give the span itself, or a copy of it without the personal data in its attributes, events and status."""
    found = span.attributes or {}
    attributes = _redact(found)
    events = [_redact_event(event) for event in span.events]
    status = _redact_status(span.status)
    if attributes is found and status is span.status and all(a is b for a, b in zip(events, span.events, strict=True)):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redact_event(event: Event) -> Event:
    attributes = event.attributes or {}
    masked = _redact(attributes)
    return event if masked is attributes else Event(event.name, masked, event.timestamp)


def _redact_status(status: Status) -> Status:
    masked = redact_text(status.description or "")
    return status if masked == (status.description or "") else Status(status.status_code, masked)
