"""The sampler for spans that serve many traces."""

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags

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
