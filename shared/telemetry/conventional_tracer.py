"""The messaging spans: the aio-pika instrumentation makes and propagates them, this module brings them up to date.

The instrumentation writes names and attributes of a convention long gone, and no links. It asks a tracer provider for its
tracer, so the correction stands there: each span is rewritten as it is started. A span processor would come too late for two
things: a sampler would decide on the old name, and the old attributes could not be taken off again.
"""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from aio_pika.abc import AbstractMessage
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind
from opentelemetry.util import types
from opentelemetry.util._decorator import _agnosticcontextmanager

from .destinations import Described
from .open_delivery import OpenDelivery
from .relations import related_links
from .safely import call_hook
from .semconv import LINK_REASON, MESSAGING_CONVERSATION_ID, MESSAGING_MESSAGE_ID, LinkReason, MessagingNames
from .trace_context import without_span
from .tracing_options import Relation, TracingOptions

Handed = tuple[Described, AbstractMessage, OpenDelivery | None]

HANDED: ContextVar[Handed | None] = ContextVar("whole traces: handed to the tracer", default=None)
"""What the instrumentation does not pass on to its tracer: where a message goes or comes from, and the message."""


class ConventionalTracer(trace.Tracer):
    """Makes messaging spans of today's conventions, out of what was handed over."""

    def __init__(
        self, inner: trace.Tracer, options: TracingOptions, names: MessagingNames, *, follows_parents: bool
    ) -> None:
        self._inner = inner
        self._options = options
        self._names = names
        self._follows_parents = follows_parents and options.relation is not Relation.LINK

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Start the span of what was handed over; its own name and attributes are those of the old conventions."""
        handed = HANDED.get()
        if handed is None:  # a copy of the instrumentation that nothing is wrapped around
            return self._inner.start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        HANDED.set(None)
        described, message, delivery = handed
        if delivery is None:
            return self.start_send(described, message, context)
        return self.start_delivery(delivery, message, context)

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, end_on_exit: bool = True, **kwargs: Any) -> Iterator[Span]:
        """Start a span and make it the current one."""
        with trace.use_span(self.start_span(*args, **kwargs), end_on_exit=end_on_exit) as span:
            yield span

    def start_send(self, described: Described, message: AbstractMessage, context: Context | None) -> Span:
        """Start the span of a send."""
        parent = trace.get_current_span(context).get_span_context()
        if self._is_unsampled(parent):
            return NonRecordingSpan(parent)
        span = self._inner.start_span(
            described.span_name, context, SpanKind.PRODUCER, described.attributes | _ids(message)
        )
        if self._options.publish_hook is not None:
            call_hook(self._options.publish_hook, span, message)
        return span

    def start_delivery(
        self,
        delivery: OpenDelivery,
        message: AbstractMessage,
        context: Context | None,
        *,
        kind: SpanKind = SpanKind.CONSUMER,
        creation: trace.SpanContext | None = None,
        start_time: int | None = None,
    ) -> Span:
        """Start the span of a delivery in a context that was read from its message.

        `creation` is the span that sent it, where that is not the current one of the context.
        """
        parent = trace.get_current_span(context).get_span_context()
        creation = creation or parent
        delivery.creation = creation
        if self._is_unsampled(parent):
            span: Span = NonRecordingSpan(parent)
        else:
            span = self._inner.start_span(
                delivery.described.span_name,
                without_span(context) if self._options.relation is Relation.LINK else context,
                kind,
                delivery.described.attributes | self._of_delivery(message),
                self._links(message, creation),
                start_time,
            )
            if self._options.consume_hook is not None:
                call_hook(self._options.consume_hook, span, message)
        delivery.span, delivery.is_begun = span, True
        return span

    def start_settle(self, delivery: OpenDelivery, operation: str, message: AbstractMessage) -> Span:
        """Start the span of a settlement, in the current context."""
        links = [_creation_link(delivery.creation)] if delivery.creation.is_valid else []
        label = delivery.described.label
        return self._inner.start_span(
            f"{operation} {label}" if label else operation,
            None,
            SpanKind.CLIENT,
            delivery.described.attributes
            | self._of_delivery(message)
            | {"messaging.operation.name": operation, "messaging.operation.type": "settle"},
            links,
        )

    def _is_unsampled(self, parent: trace.SpanContext) -> bool:
        """Tell whether nothing is to be made of a span, as its parent is not sampled and the sampler follows parents."""
        return self._follows_parents and parent.is_valid and not parent.trace_flags.sampled

    def _of_delivery(self, message: AbstractMessage) -> dict[str, Any]:
        attributes = _ids(message)
        if tag := getattr(message, "delivery_tag", None):
            for name in self._names.delivery_tag:
                attributes[name] = tag
        return attributes

    def _links(self, message: AbstractMessage, creation: trace.SpanContext) -> list[Link]:
        related = related_links(message.headers)
        if creation.is_valid and self._options.relation is not Relation.CHILD:
            return [_creation_link(creation), *related]
        return related


def _creation_link(creation: trace.SpanContext) -> Link:
    return Link(creation, {LINK_REASON: LinkReason.CREATION_CONTEXT.value})


def _ids(message: AbstractMessage) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if message.message_id:
        attributes[MESSAGING_MESSAGE_ID] = message.message_id
    if message.correlation_id:
        attributes[MESSAGING_CONVERSATION_ID] = message.correlation_id
    return attributes


class ConventionalTracerProvider(trace.TracerProvider):
    """Gives the aio-pika instrumentation the tracer that writes the conventions of today."""

    def __init__(self, tracer: ConventionalTracer) -> None:
        self._tracer = tracer

    def get_tracer(self, *_: Any, **__: Any) -> ConventionalTracer:
        """Give the tracer."""
        return self._tracer
