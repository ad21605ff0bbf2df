"""Which spans are sampled: those that serve many traces, and the messaging spans below others."""

import pytest
from aio_pika import Message
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from shared.telemetry.conventional_tracer import HANDED, ConventionalTracer
from shared.telemetry.destinations import Destination, DestinationNames
from shared.telemetry.metrics import MessagingMetrics
from shared.telemetry.open_delivery import OpenDelivery
from shared.telemetry.sampling import LinkedSampler, linked_parentbased_traceidratio
from shared.telemetry.semconv import MessagingNames
from shared.telemetry.tracing_options import TracingOptions

SAMPLED = Link(SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED)))
UNSAMPLED = Link(SpanContext(3, 4, False, TraceFlags(TraceFlags.DEFAULT)))
IN_A_TRACE = trace.set_span_in_context(NonRecordingSpan(SpanContext(5, 6, True)), Context())


@pytest.mark.parametrize(
    ("inner", "parent", "links", "expected"),
    [
        (ALWAYS_OFF, Context(), [UNSAMPLED, SAMPLED], Decision.RECORD_AND_SAMPLE),
        (ALWAYS_ON, Context(), [UNSAMPLED], Decision.RECORD_AND_SAMPLE),
        (ALWAYS_OFF, Context(), [UNSAMPLED], Decision.DROP),
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
    spans, names = TracerProvider(sampler).get_tracer("a messaging library"), MessagingNames()
    tracer = ConventionalTracer(spans, TracingOptions(), names, follows_parents=sampler.follows_parents)
    context = trace.set_span_in_context(NonRecordingSpan(parent.context), Context())
    described = DestinationNames(names).describe(Destination("send", "", "jobs"), "127.0.0.1", 5672)
    delivery = OpenDelivery(described, MessagingMetrics(None, "")) if kind is SpanKind.CONSUMER else None
    HANDED.set((described, Message(b""), delivery))

    span = tracer.start_span("send", context, kind)

    assert span.is_recording() is is_recorded
    assert span.get_span_context().trace_id == parent.context.trace_id
    assert span.get_span_context().trace_flags.sampled is is_recorded


def test_a_public_edge_decides_for_itself_whatever_flag_a_caller_sends() -> None:
    asked = trace.set_span_in_context(
        NonRecordingSpan(SpanContext(5, 6, True, TraceFlags(TraceFlags.SAMPLED))), Context()
    )
    edge = LinkedSampler(ParentBased(ALWAYS_OFF), trusts_callers=False)

    at_the_edge = edge.should_sample(asked, 5, "POST /orders", SpanKind.SERVER)
    from_the_queue = edge.should_sample(asked, 5, "process orders", SpanKind.CONSUMER)

    assert at_the_edge.decision is Decision.DROP
    assert from_the_queue.decision is Decision.RECORD_AND_SAMPLE


def test_a_replay_of_a_trace_that_was_not_kept_is_left_to_the_ratio() -> None:
    sampler = linked_parentbased_traceidratio("0.5")

    decisions = {
        sampler.should_sample(Context(), trace_id, "replay", links=[UNSAMPLED]).decision for trace_id in (1, 2**64 - 1)
    }

    assert decisions == {Decision.RECORD_AND_SAMPLE, Decision.DROP}
