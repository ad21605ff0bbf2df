"""Whole traces over RabbitMQ, for any service with aio-pika: it knows none of ours, so that the folder works under any name.

Everything public is here, and nothing is imported before it is used: the exporter needs the `otlp` extra, the rest does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import semconv
    from .aio_pika_tracing import AioPikaTracing
    from .batching import CountedBatchLogRecordProcessor, CountedBatchSpanProcessor
    from .delivery_words import delivery_failed, delivery_settled
    from .destinations import Destination, Template
    from .ended_spans import with_error_type
    from .exporters import BufferedLogExporter, BufferedMetricExporter, BufferedSpanExporter, sender_of
    from .joined_histograms import JoinedHistograms
    from .light_metrics import LightMeterProvider, begin
    from .metrics import SECONDS
    from .otlp_encoder import SpanEncoder
    from .propagation import GuardedPropagator, GuardedTraceContext
    from .redaction import DEFAULT_REDACTION, PERSONAL_NAMES, RedactingSpanExporter, Redaction, redact_text
    from .relations import (
        died_in,
        duplicate_of,
        fan_in,
        late_reply_to,
        link_current_span,
        link_to_reply,
        previous_attempt,
        replay_of,
    )
    from .sampling import LinkedSampler
    from .semconv import LINK_REASON, LinkReason
    from .sender import FLUSH_SECONDS, Sender
    from .target import is_loopback, target_of
    from .trace_context import carry, context_of, current_traceparent, resume, span_context_of, trace_id_of
    from .tracing_options import Relation

__version__ = "0.1.0"

__all__ = [
    "AioPikaTracing",
    "BufferedLogExporter",
    "BufferedMetricExporter",
    "BufferedSpanExporter",
    "CountedBatchLogRecordProcessor",
    "CountedBatchSpanProcessor",
    "DEFAULT_REDACTION",
    "Destination",
    "FLUSH_SECONDS",
    "GuardedPropagator",
    "GuardedTraceContext",
    "JoinedHistograms",
    "LINK_REASON",
    "LightMeterProvider",
    "LinkReason",
    "LinkedSampler",
    "RedactingSpanExporter",
    "PERSONAL_NAMES",
    "Redaction",
    "Relation",
    "SECONDS",
    "Sender",
    "SpanEncoder",
    "Template",
    "begin",
    "carry",
    "context_of",
    "current_traceparent",
    "delivery_failed",
    "delivery_settled",
    "died_in",
    "duplicate_of",
    "fan_in",
    "is_loopback",
    "late_reply_to",
    "link_current_span",
    "link_to_reply",
    "previous_attempt",
    "redact_text",
    "replay_of",
    "resume",
    "semconv",
    "sender_of",
    "span_context_of",
    "target_of",
    "trace_id_of",
    "with_error_type",
]

_HOMES = {
    "AioPikaTracing": "aio_pika_tracing",
    "CountedBatchLogRecordProcessor": "batching",
    "CountedBatchSpanProcessor": "batching",
    "delivery_failed": "delivery_words",
    "delivery_settled": "delivery_words",
    "Destination": "destinations",
    "Template": "destinations",
    "with_error_type": "ended_spans",
    "BufferedLogExporter": "exporters",
    "BufferedMetricExporter": "exporters",
    "BufferedSpanExporter": "exporters",
    "sender_of": "exporters",
    "JoinedHistograms": "joined_histograms",
    "LightMeterProvider": "light_metrics",
    "begin": "light_metrics",
    "SECONDS": "metrics",
    "Relation": "tracing_options",
    "GuardedPropagator": "propagation",
    "GuardedTraceContext": "propagation",
    "SpanEncoder": "otlp_encoder",
    "DEFAULT_REDACTION": "redaction",
    "PERSONAL_NAMES": "redaction",
    "RedactingSpanExporter": "redaction",
    "Redaction": "redaction",
    "redact_text": "redaction",
    "died_in": "relations",
    "duplicate_of": "relations",
    "fan_in": "relations",
    "late_reply_to": "relations",
    "link_current_span": "relations",
    "link_to_reply": "relations",
    "previous_attempt": "relations",
    "replay_of": "relations",
    "LinkedSampler": "sampling",
    "LINK_REASON": "semconv",
    "LinkReason": "semconv",
    "FLUSH_SECONDS": "sender",
    "Sender": "sender",
    "is_loopback": "target",
    "target_of": "target",
    "carry": "trace_context",
    "context_of": "trace_context",
    "current_traceparent": "trace_context",
    "resume": "trace_context",
    "span_context_of": "trace_context",
    "trace_id_of": "trace_context",
}


if not TYPE_CHECKING:  # which would take every name for one of these

    def __getattr__(name: str) -> Any:
        """Import what is asked for, once."""
        if name == "semconv":
            return import_module(".semconv", __name__)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """Name what is public, imported yet or not."""
        return sorted({*globals(), *__all__})
