"""A trace as people read it: plain frozen values, whichever backend the spans came from.

Ids are lower-case hex, times nanoseconds since the Unix epoch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

Scalar = str | bool | int | float
AttributeValue = Scalar | list[Scalar]
Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Link:
    """A reference from a span to a span of this or another trace."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment of a span, such as an exception."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a trace, with the service and the instrumentation scope that recorded it."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    service: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    attributes: Attributes
    links: tuple[Link, ...]
    events: tuple[Event, ...]
    resource: Attributes
    scope: str

    @property
    def duration_ns(self) -> int:
        """How long the step took; 0 where a clock stepped back."""
        return max(0, self.end_ns - self.start_ns)

    @property
    def failed(self) -> bool:
        """Whether the span ended with status ERROR."""
        return self.status == "ERROR"


@dataclass(frozen=True, slots=True)
class Node:
    """A span in its place in the tree; an orphan names a parent that the trace does not hold."""

    span: Span
    depth: int
    last_child: bool
    orphan: bool


def span_to_json(span: Span) -> dict[str, Any]:
    """The span as JSON values; `span_from_json` reads it back equal."""
    return _shallow(span) | {
        "links": [_shallow(link) for link in span.links],
        "events": [_shallow(event) for event in span.events],
    }


def span_from_json(value: Mapping[str, Any]) -> Span:
    """The span that `span_to_json` wrote. Raises KeyError or TypeError on anything else."""
    own = dict(value)
    links = tuple(Link(**link) for link in own.pop("links"))
    events = tuple(Event(**event) for event in own.pop("events"))
    return Span(**own, links=links, events=events)


def _shallow(part: Span | Link | Event) -> dict[str, Any]:
    """The fields without copying what is in them, which `dataclasses.asdict` would."""
    return {field.name: getattr(part, field.name) for field in fields(part)}


def tree(spans: Sequence[Span]) -> list[Node]:
    """The spans depth first, siblings by start time; every span exactly once, whatever their parents claim."""
    by_start = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    known = {span.span_id for span in by_start}
    children: dict[str, list[Span]] = {}
    roots = []
    for span in by_start:
        if span.parent_span_id is None or span.parent_span_id not in known:
            roots.append(span)
        else:
            children.setdefault(span.parent_span_id, []).append(span)

    nodes = list(_walk(roots, children))
    # What is left hangs on no root: parents in a circle, cut open at the earliest span of each circle.
    for span in by_start:
        siblings = children.get(span.parent_span_id or "", [])
        if span in siblings:
            siblings.remove(span)
            nodes.extend(_walk([span], children))
    return nodes


def _walk(roots: Sequence[Span], children: dict[str, list[Span]]) -> Iterator[Node]:
    """Each node below the roots, taking the visited ones out of `children`, with a stack: depth has no bound."""
    stack = [Node(span, 0, last_child=True, orphan=span.parent_span_id is not None) for span in reversed(roots)]
    while stack:
        node = stack.pop()
        yield node
        below = children.pop(node.span.span_id, [])
        stack.extend(
            Node(child, node.depth + 1, last_child=child is below[-1], orphan=False) for child in reversed(below)
        )


def root(spans: Iterable[Span]) -> Span | None:
    """The earliest span without a parent; where there is none (a caller's trace goes on), the earliest span."""
    return min(spans, key=lambda span: (span.parent_span_id is not None, span.start_ns), default=None)


def duration_ns(spans: Iterable[Span]) -> int:
    """From the first start to the last end; 0 for no spans."""
    spans = list(spans)
    if not spans:
        return 0
    return max(0, max(span.end_ns for span in spans) - min(span.start_ns for span in spans))


def services(spans: Iterable[Span]) -> list[str]:
    """The services that took part, in the order in which they came in."""
    return list(dict.fromkeys(span.service for span in sorted(spans, key=lambda span: span.start_ns)))


def has_errors(spans: Iterable[Span]) -> bool:
    """Whether any span failed."""
    return any(span.failed for span in spans)
