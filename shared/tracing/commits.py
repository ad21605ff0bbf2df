"""The seam around a group commit: one span for the transaction, below the one span it served or linked to each of several."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind
from opentelemetry.util import types

from shared.telemetry import semconv
from shared.telemetry.semconv import LinkReason
from shared.tracing import instruments

_tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)


@dataclass(frozen=True, slots=True)
class Described:
    """What is told of every transaction of a group commit: its name, and the attributes of the conventions for databases."""

    name: str
    attributes: Mapping[str, types.AttributeValue]


def described(name: str, where: Mapping[str, types.AttributeValue], statements: str) -> Described:
    """Describe the transactions of a group commit; `statements` are constant, and hold no value."""
    about = {semconv.DB_OPERATION_NAME: "BATCH", semconv.DB_QUERY_SUMMARY: name, semconv.DB_QUERY_TEXT: statements}
    return Described(name, {**where, **about})


def waiting_span() -> SpanContext:
    """Give the span in which a write is handed over, for the transaction to stand below or to link to."""
    return trace.get_current_span().get_span_context()


def committing(commit: Described, members: Sequence[SpanContext]) -> AbstractContextManager[object]:
    """Begin the span of a transaction, and count its writes; no span where nobody traces any of them.

    Where one is traced, the transaction is a part of its trace; where several are, it is a trace of its own, linked to each.
    """
    instruments.batch_size.record(len(members), {"batch": commit.name})
    traced = list(_distinct(members))
    if not traced:
        return nullcontext()
    alone = trace.set_span_in_context(trace.NonRecordingSpan(traced[0])) if len(traced) == 1 else None
    return _tracer.start_as_current_span(
        commit.name,
        alone or Context(),
        SpanKind.CLIENT,
        {**commit.attributes, semconv.BATCH_SIZE: len(members)},
        None if alone else [Link(member, _MEMBER) for member in traced],
    )


_MEMBER = {semconv.LINK_REASON: LinkReason.BATCH_MEMBER.value}


def _distinct(members: Sequence[SpanContext]) -> Iterator[SpanContext]:
    return iter({member.span_id: member for member in members if member.trace_flags.sampled}.values())
