"""Changes to spans between their end and their export, when a span itself is frozen and only a copy can differ."""

from collections.abc import Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.util import types

from . import semconv


def copy_of(
    span: ReadableSpan,
    *,
    name: str | None = None,
    attributes: types.Attributes = None,
    events: Sequence[Event] | None = None,
    links: Sequence[Link] | None = None,
    status: Status | None = None,
) -> ReadableSpan:
    """Copy an ended span with some parts replaced."""
    return ReadableSpan(
        name=span.name if name is None else name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes if attributes is None else attributes,
        events=span.events if events is None else events,
        links=span.links if links is None else links,
        kind=span.kind,
        status=span.status if status is None else status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def with_error_type(span: ReadableSpan) -> ReadableSpan:
    """Give a failed span the `error.type` that the conventions require, from the exception it recorded last."""
    if span.status.status_code is not StatusCode.ERROR:
        return span
    attributes = span.attributes or {}
    if semconv.ERROR_TYPE in attributes:
        return span
    for event in reversed(span.events):
        exception_type = (event.attributes or {}).get("exception.type")
        if exception_type:
            return copy_of(span, attributes={**attributes, semconv.ERROR_TYPE: exception_type})
    return span
