"""A scenario: what happens in it, what to look at, and what its trace has to show before it is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.contract.topology import DEAD_LETTERS
from shared.telemetry import LINK_REASON, LinkReason
from shared.tools.local.troubles import Lab
from shared.tools.traces.model import AttributeValue, Span
from shared.tools.traces.readback import Trace, commits


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A trace to show, and what it has to show."""

    span: str
    """The name of the spans whose attributes tell the story."""
    has: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Attributes that one of these spans has."""
    links: LinkReason | None = None
    """Why one of its spans links to another."""
    commits: int = 3
    """Group commits that served it, at least: an order is stored, decided on and recorded by one each."""
    linked_by: LinkReason | None = None
    """Why one of these links into it."""
    tells: tuple[str, ...] = ()
    """Attributes to print."""

    def is_shown_by(self, trace: Trace) -> bool:
        """Tell whether the trace has arrived whole and shows what it should."""
        return (
            is_settled(trace)
            and len(commits(trace)) >= self.commits
            and (self.links is None or self.links in _reasons(trace.spans))
            and (self.linked_by is None or self.linked_by in _reasons(trace.linked))
            and any(self.has.items() <= span.attributes.items() for span in self.spans_of(trace))
        )

    def spans_of(self, trace: Trace) -> list[Span]:
        """Give the spans that tell the story, in order of time."""
        return sorted((span for span in trace.spans if span.name == self.span), key=lambda span: span.start_ns)


@dataclass(frozen=True, slots=True)
class Scenario:
    """An order in trouble."""

    title: str
    happens: str
    look_at: str
    play: Callable[[Lab], str]
    """Places the order, makes the trouble, and gives the id of the trace to show."""
    exhibit: Exhibit
    replay: Exhibit | None = None
    """The trace of the replay that links to the first one, where there is one."""


def is_settled(trace: Trace) -> bool:
    """Tell whether every parent and link target within the trace has arrived, and every message but a dead letter was taken."""
    known = {span.span_id for span in trace.spans}
    received = {span.parent_span_id for span in trace.spans if span.kind == "CONSUMER"}
    return (
        all(span.parent_span_id is None or span.parent_span_id in known for span in trace.spans)
        and all(link.span_id in known for span in trace.spans for link in span.links if link.trace_id == trace.trace_id)
        and all(
            span.span_id in received or span.name == f"send {DEAD_LETTERS}"
            for span in trace.spans
            if span.kind == "PRODUCER"
        )
    )


def _reasons(spans: Sequence[Span]) -> set[AttributeValue | None]:
    return {link.attributes.get(LINK_REASON) for span in spans for link in span.links}


def replay_of(trace: Trace) -> str | None:
    """Find the trace of the replay of what died in a trace."""
    return next((span.trace_id for span in trace.linked if LinkReason.REPLAY_OF in _reasons([span])), None)
