"""The trace context as one line of text, for where it is kept: rows, records, dead letters."""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


def current_traceparent() -> str | None:
    """Give the W3C traceparent of the current span, or None where nothing is traced."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span_context_of(traceparent: str | None) -> SpanContext | None:
    """Read a traceparent; None for none, and for one that is malformed."""
    if not traceparent:
        return None
    context = trace.get_current_span(_propagator.extract({"traceparent": traceparent}, Context())).get_span_context()
    return context if context.is_valid else None


def context_of(traceparent: str | None) -> Context:
    """Give a context whose current span is the one named; an empty context for none."""
    span_context = span_context_of(traceparent)
    return Context() if span_context is None else trace.set_span_in_context(NonRecordingSpan(span_context), Context())


def trace_id_of(traceparent: str | None) -> str | None:
    """Give the trace id of a traceparent in hex, or None."""
    span_context = span_context_of(traceparent)
    return None if span_context is None else trace.format_trace_id(span_context.trace_id)
