"""Keeps personal data out of what is exported: masked as spans are written, or in copies for an exporter that is not ours."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status

from .ended_spans import copy_of, with_error_type

MASK: Final = "[redacted]"
PERSONAL_NAMES: Final = frozenset(
    {"email", "customer", "customer.id", "customer.email", "user.id", "user.email", "client.address", "enduser.id"}
)
"""Attributes that are personal by their name, whatever they hold."""
EMAIL: Final = r"[\w.+%!#$'*^`{|}~\-]{1,64}(?:@|%40)[\w\-]{1,63}(?:\.[\w\-]{1,63})+"

_QUERY = "url.query"


class Redaction:
    """What is personal: attributes of these names, and in any text what one of these patterns finds.

    `kept_in_queries` names the query parameters whose values are the application's own and stay readable.
    """

    def __init__(
        self,
        names: Set[str] = PERSONAL_NAMES,
        patterns: Iterable[str] = (),
        kept_in_queries: Set[str] = frozenset(),
    ) -> None:
        self._names = names
        self._email = re.compile(EMAIL, re.IGNORECASE)
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._kept_in_queries = kept_in_queries

    def text(self, text: str) -> str:
        """Mask what is personal in a text."""
        if "@" in text or "%40" in text:
            text = self._email.sub(MASK, text)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def value(self, name: str, value: Any) -> Any:
        """Give the value of an attribute without what is personal; the very same where nothing is."""
        if name in self._names:
            return MASK
        if isinstance(value, str):
            masked = self.text(self._query(value) if name == _QUERY else value)
            return value if masked == value else masked
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            parts = tuple(self.text(part) if isinstance(part, str) else part for part in value)
            return value if parts == tuple(value) else parts
        return value

    def _query(self, query: str) -> str:
        """Mask the values of a query string: what callers add to the parameters that there are is their own data."""
        pairs = (pair.partition("=") for pair in query.split("&"))
        return "&".join(
            f"{name}={value if name in self._kept_in_queries else MASK}" if equals else name
            for name, equals, value in pairs
        )

    def _attributes(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: self.value(name, value) for name, value in (attributes or {}).items()}

    def span(self, span: ReadableSpan) -> ReadableSpan:
        """Copy a span without what is personal."""
        return copy_of(
            span,
            name=self.text(span.name),
            attributes=self._attributes(span.attributes),
            events=[
                Event(self.text(event.name), self._attributes(event.attributes), event.timestamp)
                for event in span.events
            ],
            links=[Link(link.context, self._attributes(link.attributes)) for link in span.links],
            status=Status(span.status.status_code, self.text(span.status.description or "") or None),
        )


DEFAULT_REDACTION: Final = Redaction()


def redact_text(text: str) -> str:
    """Mask every e-mail address in a text."""
    return DEFAULT_REDACTION.text(text)


class RedactingSpanExporter(SpanExporter):
    """Hands spans on to any exporter, without what is personal and with the error type that failed ones must have."""

    def __init__(self, inner: SpanExporter, redaction: Redaction = DEFAULT_REDACTION) -> None:
        self._inner = inner
        self._redaction = redaction

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export copies."""
        return self._inner.export([self._redaction.span(with_error_type(span)) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._inner.force_flush(timeout_millis)
