"""How long a message lay in its queue, seen from the two spans around it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.telemetry import semconv
from shared.tools.traces.model import Span


class Run(NamedTuple):
    """A run of time, in nanoseconds since the Unix epoch."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """How long it is."""
        return self.end_ns - self.start_ns


def queue_wait(sent: Run, received_ns: int, reported_ms: float | None) -> Run | None:
    """The wait between the end of a send and the start of its processing.

    A broker may deliver a message before its confirm has reached the publisher. The end of the send says nothing then,
    and what the consumer reported counts (`delivery.queue_wait_ms`), but not from before the send began.
    """
    if sent.end_ns <= received_ns:
        return Run(sent.end_ns, received_ns)
    if reported_ms is None:
        return None
    begin = max(sent.start_ns, received_ns - int(reported_ms * 1e6))
    return Run(begin, received_ns) if begin <= received_ns else None


def reported_wait_ms(value: object) -> float | None:
    """The attribute's value, where it is a number that makes sense."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    return None


def queue_waits(spans: Sequence[Span]) -> Mapping[str, Run]:
    """The waits of a trace, by the id of the span that processed the message."""
    by_id = {span.span_id: span for span in spans}
    waits = {}
    for span in spans:
        sender = by_id.get(span.parent_span_id or "")
        if span.kind == "CONSUMER" and sender is not None and sender.kind == "PRODUCER":
            sent = Run(sender.start_ns, sender.end_ns)
            wait = queue_wait(
                sent, span.start_ns, reported_wait_ms(span.attributes.get(semconv.DELIVERY_QUEUE_WAIT_MS))
            )
            if wait is not None:
                waits[span.span_id] = wait
    return waits


def unanswered(spans: Sequence[Span]) -> set[str]:
    """The ids of spans that sent a message which nobody has been seen to process."""
    parents = {span.parent_span_id for span in spans if span.kind == "CONSUMER"}
    return {span.span_id for span in spans if span.kind == "PRODUCER" and span.span_id not in parents}
