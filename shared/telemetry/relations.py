"""Relations that are not parent and child: links between spans, and the message headers that carry what to link to."""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext

from . import semconv
from .semconv import LinkReason
from .trace_context import current_traceparent, span_context_of

PREVIOUS_ATTEMPT_HEADER = "x-previous-attempt"
"""The traceparent of the process span whose failure sent this message on."""
REPLAY_HEADER = "x-replay-of"
"""The traceparent of the process span that made a dead letter of what is now replayed."""
MOST_LINKS = 128
"""Links that the SDK keeps of a span unless OTEL_SPAN_LINK_COUNT_LIMIT says otherwise; it drops the first ones in silence."""

_LINKING_HEADERS = {
    PREVIOUS_ATTEMPT_HEADER: LinkReason.PREVIOUS_ATTEMPT,
    REPLAY_HEADER: LinkReason.REPLAY_OF,
}


def link_current_span(target: SpanContext | None, reason: LinkReason) -> None:
    """Link the current span to another one; a target that is unknown or invalid is no link."""
    if target is not None and target.is_valid:
        trace.get_current_span().add_link(target, {semconv.LINK_REASON: reason.value})


def link_to_reply(reply: SpanContext | None) -> None:
    """Link the current span to the one in which the reply came that it waited for."""
    link_current_span(reply, LinkReason.REPLY)


def late_reply_to(carried: str | None) -> None:
    """Link the current span, in which a reply came, to the one that does not wait for it any more, as `carry` stored it."""
    link_current_span(span_context_of(carried), LinkReason.LATE_REPLY_TO)


def duplicate_of(carried: str | None) -> None:
    """Link the current span to the one that did the same before, as `carry` stored it."""
    link_current_span(span_context_of(carried), LinkReason.DUPLICATE_OF)


def related_links(headers: Mapping[str, Any]) -> list[Link]:
    """Give the links of a process span to the spans that the headers of its message name."""
    links: list[Link] = []
    for header, reason in _LINKING_HEADERS.items():
        target = headers.get(header)
        if isinstance(target, str) and (found := span_context_of(target)) is not None:
            links.append(Link(found, {semconv.LINK_REASON: reason.value}))
    return links


def previous_attempt() -> dict[str, str]:
    """Give the header of a message that carries on what the current span could not do."""
    return _header(PREVIOUS_ATTEMPT_HEADER, current_traceparent())


def died_in(headers: Mapping[str, Any]) -> str | None:
    """Give the traceparent of the span in which a dead letter died, or of its send; None for one that never was in a trace."""
    found = (headers.get(name) for name in (PREVIOUS_ATTEMPT_HEADER, "traceparent"))
    return next((value for value in found if isinstance(value, str) and value), None)


def replay_of(origin: str | None) -> dict[str, str]:
    """Give the header of a message that sends a dead letter in again, from the traceparent of the span in which it died."""
    return _header(REPLAY_HEADER, origin)


def fan_in(members: Sequence[SpanContext], most: int = MOST_LINKS) -> tuple[list[Link], dict[str, int]]:
    """Give the links of a span that serves many, and the attribute that says how many of them it had to leave out.

    Only members that are sampled are linked to: nobody finds the others. What is cut are the last ones.
    """
    sampled = list({each.span_id: each for each in members if each.is_valid and each.trace_flags.sampled}.values())
    reason = {semconv.LINK_REASON: LinkReason.BATCH_MEMBER.value}
    left_out = len(sampled) - most
    return [Link(member, reason) for member in sampled[:most]], (
        {semconv.LINKS_LEFT_OUT: left_out} if left_out > 0 else {}
    )


def _header(name: str, traceparent: str | None) -> dict[str, str]:
    return {} if not traceparent else {name: traceparent}
