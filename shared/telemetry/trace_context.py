"""The trace context as one line of text, for where it is kept: rows, records, dead letters.

The line is a W3C traceparent, followed by a space and the tracestate where there is one. Baggage stays out of it: it was meant
for those who were called, not for whoever reads the row.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


def current_traceparent() -> str | None:
    """Give the W3C traceparent of the current span, or None where nothing is traced."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def carry() -> str | None:
    """Give the context of the current span as a line that can be stored, or None where nothing is traced."""
    traceparent = current_traceparent()
    state = trace.get_current_span().get_span_context().trace_state
    return f"{traceparent} {state.to_header()}" if traceparent and state else traceparent


@contextmanager
def resume(carried: str | None) -> Iterator[None]:
    """Do something in a context that was stored; in none where that is None or malformed."""
    token = contexts.attach(context_of(carried))
    try:
        yield
    finally:
        contexts.detach(token)


def span_context_of(carried: str | None) -> SpanContext | None:
    """Read a traceparent or a line of `carry`; None for none, and for one that is malformed."""
    if not carried:
        return None
    traceparent, _, state = carried.partition(" ")
    found = _propagator.extract({"traceparent": traceparent, "tracestate": state}, Context())
    context = trace.get_current_span(found).get_span_context()
    return context if context.is_valid else None


def context_of(carried: str | None) -> Context:
    """Give a context whose current span is the one named; an empty context for none."""
    span_context = span_context_of(carried)
    return Context() if span_context is None else trace.set_span_in_context(NonRecordingSpan(span_context), Context())


def trace_id_of(carried: str | None, *, if_kept: bool = False) -> str | None:
    """Give the trace id in hex, or None; `if_kept` gives None for a trace that was not sampled, as nobody finds that one."""
    span_context = span_context_of(carried)
    if span_context is None or (if_kept and not span_context.trace_flags.sampled):
        return None
    return trace.format_trace_id(span_context.trace_id)


def without_span(context: Context | None) -> Context:
    """Give a context without its span: what begins in it is a root, with the same baggage."""
    return trace.set_span_in_context(INVALID_SPAN, context)
