"""What the caller of a trace waited for: each moment of its request, given to the innermost step that was under way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from shared.telemetry.semconv import MESSAGING_DESTINATION_NAME
from shared.tools.traces.model import Span, root
from shared.tools.traces.queue_wait import queue_waits

_MOST_SPANS = 2_000
"""Of a larger trace the first spans tell."""


class Part(NamedTuple):
    """A stretch of the request, and what was waited for in it."""

    what: str
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """How long it is."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class _Step:
    what: str
    start_ns: int
    end_ns: int
    depth: float


def critical_path(spans: Sequence[Span], linked: Sequence[Span] = ()) -> list[Part]:
    """Give the parts of the earliest request in order of time, without a gap; nothing where there is no request.

    A span of another trace that links into this one, such as a commit that several orders share, counts as a child of the
    span that it served.
    """
    request = root(span for span in spans if span.kind == "SERVER")
    if request is None or request.end_ns <= request.start_ns:
        return []
    steps = [step for step in _steps(spans[:_MOST_SPANS], linked, request) if step.end_ns > step.start_ns]
    times = sorted({time for step in steps for time in (step.start_ns, step.end_ns)})
    inside = [time for time in times if request.start_ns <= time <= request.end_ns]
    parts: list[Part] = []
    active: list[_Step] = []
    waiting = sorted(steps, key=lambda step: step.start_ns, reverse=True)
    for start, end in pairwise(inside):
        while waiting and waiting[-1].start_ns <= start:
            active.append(waiting.pop())
        active = [step for step in active if step.end_ns > start]
        innermost = max(active, key=lambda step: (step.depth, step.start_ns))
        if parts and parts[-1].what == innermost.what:
            parts[-1] = parts[-1]._replace(end_ns=end)
        else:
            parts.append(Part(innermost.what, start, end))
    return parts


def shares(parts: Sequence[Part]) -> dict[str, int]:
    """Give the nanoseconds of each kind of part, in order of first appearance."""
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.what] = sums.get(part.what, 0) + part.duration_ns
    return sums


def _steps(spans: Sequence[Span], linked: Sequence[Span], request: Span) -> list[_Step]:
    by_id = {span.span_id: span for span in spans}
    ancestors = {span.span_id: _ancestors(span, by_id) for span in spans}
    waits = queue_waits(spans)
    steps = []
    for span in spans:
        above = ancestors[span.span_id]
        if span is not request and all(each is not request for each in above):
            continue
        what = _what([span, *above])
        steps.append(_Step(what, span.start_ns, span.end_ns, len(above)))
        if (wait := waits.get(span.span_id)) is not None:
            waited = "reply" if what == "reply" else "queue"
            steps.append(_Step(waited, wait.start_ns, wait.end_ns, len(above) - 0.5))
    for span in linked:
        served = (by_id.get(link.span_id) for link in span.links if link.trace_id == request.trace_id)
        member = next((member for member in served if member is not None), None)
        if member is not None and span.name.startswith("commit "):
            above = [member, *ancestors[member.span_id]]
            steps.append(_Step(_what([span, *above]), span.start_ns, span.end_ns, len(above)))
    return steps


def _ancestors(span: Span, by_id: Mapping[str, Span]) -> list[Span]:
    """The spans above one, the nearest first; a circle ends where it closes."""
    found: dict[str, Span] = {}
    while (parent := by_id.get(span.parent_span_id or "")) is not None and parent.span_id not in found:
        found[parent.span_id] = span = parent
    return list(found.values())


def _what(lineage: Sequence[Span]) -> str:
    """What is waited for in a span, the first of its lineage; in the words of an order's way where it is one."""
    span = lineage[0]
    receiver = next((each for each in lineage if each.kind == "CONSUMER"), None)
    if receiver is not None and _is_reply(receiver):
        return "reply"
    if span.kind == "PRODUCER":
        return "reply" if _is_reply(span) else "broker"
    if span.name.startswith("commit "):
        return "store" if receiver is None else "commit"
    if any(key.startswith("db.") for key in span.attributes):
        return "database"
    return "handler" if receiver is not None else span.service


def _is_reply(span: Span) -> bool:
    return "replies" in str(span.attributes.get(MESSAGING_DESTINATION_NAME, span.name))
