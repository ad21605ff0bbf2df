"""Head sampling across a queue: who serves many traces is sampled when one of them is."""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class LinkedSampler(Sampler):
    """Samples a span that has links and no parent when a span that it links to is sampled; asks `inner` for any other.

    A ratio would keep one in a hundred of the batch commits that the traces it keeps have a part in: parent-based samplers know
    parents only.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner
        self.follows_parents = isinstance(inner, ParentBased)
        """Whether the children of a span that is not sampled are not sampled either, whatever they are."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on one span as it starts."""
        if not links or trace.get_current_span(parent_context).get_span_context().is_valid:
            return self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if any(link.context.trace_flags.sampled for link in links):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        """Name this sampler and the one that it asks."""
        return f"Linked{{{self._inner.get_description()}}}"
