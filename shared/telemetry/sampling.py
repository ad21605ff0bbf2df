"""Head sampling across a queue: who serves many traces is sampled when one of them is."""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class LinkedSampler(Sampler):
    """Samples a span that has links and no parent when a span that it links to is sampled; asks `inner` for any other.

    A ratio would keep one in a hundred of the batch commits that the traces it keeps have a part in: parent-based samplers know
    parents only. With `trusts_callers` off, the sampled flag that a caller sends to a server is not followed: `inner` decides
    as for a new trace, so that nobody outside can have everything recorded, or nothing.
    """

    def __init__(self, inner: Sampler, *, trusts_callers: bool = True) -> None:
        self._inner = inner
        self._trusts_callers = trusts_callers
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
        parent = trace.get_current_span(parent_context).get_span_context()
        if not self._trusts_callers and kind is SpanKind.SERVER and parent.is_valid and parent.is_remote:
            parent_context = Context()
        elif not parent.is_valid and links and any(link.context.trace_flags.sampled for link in links):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Name this sampler and the one that it asks."""
        return f"Linked{{{self._inner.get_description()}}}"


def linked_parentbased_always_on(_: str | None = None) -> LinkedSampler:
    """Make the sampler of `OTEL_TRACES_SAMPLER=linked_parentbased_always_on`."""
    return LinkedSampler(ParentBased(ALWAYS_ON))


def linked_parentbased_always_off(_: str | None = None) -> LinkedSampler:
    """Make the sampler of `OTEL_TRACES_SAMPLER=linked_parentbased_always_off`: it samples what a caller has sampled."""
    return LinkedSampler(ParentBased(ALWAYS_OFF))


def linked_parentbased_traceidratio(ratio: str | None = None) -> LinkedSampler:
    """Make the sampler of `OTEL_TRACES_SAMPLER=linked_parentbased_traceidratio`, the ratio from `OTEL_TRACES_SAMPLER_ARG`.

    Raises ValueError for a ratio that is none: the SDK then says so and takes its default.
    """
    return LinkedSampler(ParentBased(TraceIdRatioBased(1.0 if ratio is None else float(ratio))))
