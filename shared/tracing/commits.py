"""The seam around a group commit: one span for the transaction, linked to every span whose write is in it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext

from shared.telemetry import semconv
from shared.telemetry.semconv import LinkReason
from shared.tracing import instruments

_tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)


def waiting_span() -> SpanContext:
    """Give the span in which a write is handed over, for the transaction to link to."""
    return trace.get_current_span().get_span_context()


def committing(name: str, members: Sequence[SpanContext]) -> AbstractContextManager[object]:
    """Begin the span of a transaction, of a trace of its own, and count its writes; no span where nobody traces any of them."""
    instruments.batch_size.record(len(members), {"batch": name})
    links = [
        Link(member, {semconv.LINK_REASON: LinkReason.BATCH_MEMBER.value})
        for member in members
        if member.trace_flags.sampled
    ]
    if not links:
        return nullcontext()
    attributes = {semconv.BATCH_SIZE: len(members)}
    return _tracer.start_as_current_span(name, Context(), links=links, attributes=attributes)
