"""Which spans are sampled: those that serve many traces, and the messaging spans below others."""

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from shared.telemetry.instrumentation import ConventionalTracerProvider
from shared.telemetry.sampling import LinkedSampler

SAMPLED = Link(SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED)))
UNSAMPLED = Link(SpanContext(3, 4, False, TraceFlags(TraceFlags.DEFAULT)))
IN_A_TRACE = trace.set_span_in_context(NonRecordingSpan(SpanContext(5, 6, True)), Context())


@pytest.mark.parametrize(
    ("inner", "parent", "links", "expected"),
    [
        (ALWAYS_OFF, Context(), [UNSAMPLED, SAMPLED], Decision.RECORD_AND_SAMPLE),
        (ALWAYS_ON, Context(), [UNSAMPLED], Decision.DROP),
        (ALWAYS_ON, Context(), [], Decision.RECORD_AND_SAMPLE),
        (ALWAYS_OFF, Context(), [], Decision.DROP),
        (ALWAYS_ON, IN_A_TRACE, [UNSAMPLED], Decision.RECORD_AND_SAMPLE),
        (ALWAYS_OFF, IN_A_TRACE, [SAMPLED], Decision.DROP),
    ],
)
def test_links_decide_where_there_is_no_parent(
    inner: Sampler, parent: Context, links: list[Link], expected: Decision
) -> None:
    result = LinkedSampler(inner).should_sample(parent, 7, "commit orders", links=links)

    assert result.decision is expected


@pytest.mark.parametrize(
    ("inner", "parent", "is_recorded"),
    [
        (ParentBased(ALWAYS_ON), UNSAMPLED, False),
        (ParentBased(ALWAYS_OFF), SAMPLED, True),
        (ALWAYS_ON, UNSAMPLED, True),
        (ALWAYS_OFF, SAMPLED, False),
    ],
)
@pytest.mark.parametrize("kind", [SpanKind.PRODUCER, SpanKind.CONSUMER])
def test_a_messaging_span_below_another_is_recorded_as_the_sampler_says(
    inner: Sampler, parent: Link, is_recorded: bool, kind: SpanKind
) -> None:
    sampler = LinkedSampler(inner)
    provider = ConventionalTracerProvider(TracerProvider(sampler), follows_parents=sampler.follows_parents)
    context = trace.set_span_in_context(NonRecordingSpan(parent.context), Context())

    span = provider.get_tracer("a messaging library").start_span("send", context, kind)

    assert span.is_recording() is is_recorded
    assert span.get_span_context().trace_id == parent.context.trace_id
    assert span.get_span_context().trace_flags.sampled is is_recorded
