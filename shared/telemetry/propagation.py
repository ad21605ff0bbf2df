"""A propagator that a hostile or broken header cannot hurt: what it cannot read, it reads as no context."""

import logging

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .redaction import redact_text

MAX_HEADER_LENGTH = 8192
"""Longest header value that is looked at: the limit of the W3C baggage specification; traceparent and tracestate are shorter."""

_log = logging.getLogger(__name__)


class _TextGetter(Getter[CarrierT]):
    """Hides every value that is not text of a sane length: AMQP headers may hold integers, bytes, tables.

    And text with personal data: a caller's tracestate and baggage would go into every span, link and message of the trace.
    """

    def __init__(self, inner: Getter[CarrierT]) -> None:
        self._inner = inner

    def get(self, carrier: CarrierT, key: str) -> list[str] | None:
        values = self._inner.get(carrier, key)
        return [value for value in values if isinstance(value, str) and _is_harmless(value)] if values else None

    def keys(self, carrier: CarrierT) -> list[str]:
        return [key for key in self._inner.keys(carrier) if isinstance(key, str)]


def _is_harmless(value: str) -> bool:
    return len(value) <= MAX_HEADER_LENGTH and redact_text(value) == value


class GuardedPropagator(TextMapPropagator):
    """Wraps the configured propagators; extraction never raises, injection is theirs unchanged.

    Without it, an integer `traceparent` raises inside the aio-pika instrumentation before the callback runs, and the
    delivery is never settled.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self._inner = inner

    @property
    def fields(self) -> set[str]:
        """Name the headers that the wrapped propagators write."""
        return self._inner.fields

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Read the trace context of a carrier, or give the context unchanged where there is none that can be read."""
        unchanged = context if context is not None else Context()
        try:
            # What is composed of no propagators gives None for no context, which no caller can go on with.
            return self._inner.extract(carrier, context, _TextGetter(getter)) or unchanged
        except Exception:  # whatever a propagator makes of foreign bytes, the message behind them must still be handled
            _log.debug("unreadable trace context in headers", exc_info=True)
            return unchanged

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the current trace context into a carrier."""
        self._inner.inject(carrier, context, setter)


class GuardedTraceContext(GuardedPropagator):
    """The propagator of `OTEL_PROPAGATORS=guarded_tracecontext`: W3C trace context, and no baggage."""

    def __init__(self) -> None:
        super().__init__(TraceContextTextMapPropagator())
