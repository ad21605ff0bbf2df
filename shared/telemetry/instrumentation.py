"""The messaging spans: the aio-pika instrumentation makes and propagates them, this module brings them up to date.

The instrumentation writes names and attributes of a convention long gone, and no links. It asks a tracer provider for its
tracer, so the correction stands there: `ConventionalTracerProvider` rewrites each span as it is started. A span processor
would come too late for two things: a sampler would decide on the old name, and the old attributes could not be taken
off again.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind
from opentelemetry.util import types
from opentelemetry.util._decorator import _agnosticcontextmanager

from . import semconv
from .semconv import LinkReason

Described = tuple[str, Mapping[str, types.AttributeValue]]


@dataclass(frozen=True, slots=True)
class Destinations:
    """What the instrumentation does not tell of the destinations of an application.

    `template_of` gives the low-cardinality form of a destination whose name holds an id, and None for any other.
    `routing_keys` names the one routing key of what is consumed from an exchange.
    """

    template_of: Callable[[str], str | None] = lambda _: None
    temporary_templates: frozenset[str] = frozenset()
    """Templates of destinations that live no longer than their connection."""
    routing_keys: Mapping[str, str] = field(default_factory=dict)


class ConventionalTracerProvider(trace.TracerProvider):
    """Gives the aio-pika instrumentation tracers that write the messaging conventions of today.

    `follows_parents` says that nothing is sampled below a span that is not: then nothing is made of it either.
    """

    def __init__(
        self,
        inner: trace.TracerProvider,
        destinations: Destinations | None = None,
        *,
        follows_parents: bool = False,
    ) -> None:
        self._inner = inner
        self._destinations = destinations or Destinations()
        self._follows_parents = follows_parents

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,  # noqa: ARG002 - the one passed in names the old conventions
        attributes: types.Attributes | None = None,
    ) -> trace.Tracer:
        """Give a tracer whose spans are corrected as they start."""
        return _ConventionalTracer(
            self._inner.get_tracer(
                instrumenting_module_name, instrumenting_library_version, semconv.SCHEMA_URL, attributes
            ),
            self._destinations,
            self._follows_parents,
        )


class _ConventionalTracer(trace.Tracer):
    def __init__(self, inner: trace.Tracer, destinations: Destinations, follows_parents: bool) -> None:
        self._inner = inner
        self._follows_parents = follows_parents
        # There are few destinations and many spans.
        self._describe = functools.lru_cache(maxsize=256)(functools.partial(_describe_destination, destinations))

    def start_span(
        self,
        name: str,  # noqa: ARG002 - the old name
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        parent = trace.get_current_span(context).get_span_context()
        if self._follows_parents and parent.is_valid and not parent.trace_flags.sampled:
            return NonRecordingSpan(parent)
        operation = "process" if kind is SpanKind.CONSUMER else "send"
        old = attributes or {}
        new_name, shared = self._describe(operation, str(old.get("messaging.destination", "")))
        corrected = {**shared, **{new: old[former] for former, new in _RENAMED.items() if former in old}}
        if kind is SpanKind.CONSUMER and parent.is_valid:
            links = [*(links or ()), Link(parent, {semconv.LINK_REASON: LinkReason.CREATION_CONTEXT.value})]
        return self._inner.start_span(
            new_name,
            context,
            kind,
            corrected,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
        )

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, end_on_exit: bool = True, **kwargs: Any) -> Iterator[Span]:
        with trace.use_span(self.start_span(*args, **kwargs), end_on_exit=end_on_exit) as span:
            yield span


def _describe_destination(destinations: Destinations, operation: str, old: str) -> Described:
    """Give the name of the spans of an operation on the instrumentation's destination, and the attributes they share."""
    exchange, routing_key = _exchange_and_routing_key(destinations, operation, old)
    # The queue is left out of a consumer's destination, as it may be where it is named after its routing key.
    destination = f"{exchange}:{routing_key}" if exchange else routing_key
    attributes: dict[str, types.AttributeValue] = {
        semconv.MESSAGING_SYSTEM: "rabbitmq",
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_OPERATION_TYPE: operation,
        semconv.MESSAGING_DESTINATION_NAME: destination,
        semconv.MESSAGING_ROUTING_KEY: routing_key,
    }
    template = destinations.template_of(destination)
    if template is None:
        return f"{operation} {destination}", attributes
    attributes[semconv.MESSAGING_DESTINATION_TEMPLATE] = template
    if template in destinations.temporary_templates:
        attributes[semconv.MESSAGING_DESTINATION_TEMPORARY] = True
    return f"{operation} {template}", attributes


_RENAMED = {
    "messaging.message.id": semconv.MESSAGING_MESSAGE_ID,
    "messaging.conversation_id": semconv.MESSAGING_CONVERSATION_ID,
    "net.peer.name": semconv.SERVER_ADDRESS,
    "net.peer.port": semconv.SERVER_PORT,
}


def _exchange_and_routing_key(destinations: Destinations, operation: str, destination: str) -> tuple[str, str]:
    """Read the instrumentation's destination: `exchange,routing_key` on a send, exchange or else queue on a process."""
    if operation == "send":
        exchange, _, routing_key = destination.partition(",")
        return exchange, routing_key
    if destination in destinations.routing_keys:
        return destination, destinations.routing_keys[destination]
    return "", destination
