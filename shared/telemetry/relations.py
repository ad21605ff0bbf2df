"""Relations that are not parent and child: links between spans, and the message headers that carry what to link to."""

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from . import semconv
from .semconv import LinkReason
from .trace_context import current_traceparent, span_context_of

PREVIOUS_ATTEMPT_HEADER = "x-previous-attempt"
"""The traceparent of the process span whose failure sent this message on."""
REPLAY_HEADER = "x-replay-of"
"""The traceparent of the process span that made a dead letter of what is now replayed."""

_LINKING_HEADERS = {
    PREVIOUS_ATTEMPT_HEADER: LinkReason.PREVIOUS_ATTEMPT,
    REPLAY_HEADER: LinkReason.REPLAY_OF,
}


def link_current_span(target: SpanContext | None, reason: LinkReason) -> None:
    """Link the current span to another one; a target that is unknown or invalid is no link."""
    if target is not None and target.is_valid:
        trace.get_current_span().add_link(target, {semconv.LINK_REASON: reason.value})


def link_to_related(headers: Mapping[str, Any]) -> None:
    """Link the current process span to the spans that the headers of its message name."""
    for header, reason in _LINKING_HEADERS.items():
        target = headers.get(header)
        if isinstance(target, str):
            link_current_span(span_context_of(target), reason)


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


def _header(name: str, traceparent: str | None) -> dict[str, str]:
    return {} if not traceparent else {name: traceparent}
