"""The seam around a group commit: one span for the transaction, below the one span it served or linked to each of several."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.util import types

from shared.telemetry import fan_in, semconv
from shared.tracing import instruments

_tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)


@dataclass(frozen=True, slots=True)
class CommitSpans:
    """What is told of every transaction of a group commit: its name, and the attributes of the conventions for databases."""

    name: str
    attributes: Mapping[str, types.AttributeValue]


def described(name: str, where: Mapping[str, types.AttributeValue], statements: str) -> CommitSpans:
    """Describe the transactions of a group commit; `statements` are constant, and hold no value."""
    about = {semconv.DB_OPERATION_NAME: "BATCH", semconv.DB_QUERY_SUMMARY: name, semconv.DB_QUERY_TEXT: statements}
    return CommitSpans(name, {**where, **about})


def waiting_span() -> SpanContext:
    """Give the span in which a write is handed over, for the transaction to stand below or to link to."""
    return trace.get_current_span().get_span_context()


def committing(commit: CommitSpans, members: Sequence[SpanContext]) -> AbstractContextManager[object]:
    """Begin the span of a transaction, and count its writes; no span where nobody traces any of them.

    Where one is traced, the transaction is a part of its trace; where several are, it is a trace of its own, linked to each.
    """
    instruments.batch_size.record(len(members), {"batch": commit.name})
    links, left_out = fan_in(members)
    if not links:
        return nullcontext()
    attributes = {**commit.attributes, semconv.BATCH_SIZE: len(members), **left_out}
    if len(links) > 1:
        return _tracer.start_as_current_span(commit.name, Context(), SpanKind.CLIENT, attributes, links)
    served = trace.set_span_in_context(trace.NonRecordingSpan(links[0].context))
    return _tracer.start_as_current_span(commit.name, served, SpanKind.CLIENT, attributes)
