"""Run by a test in a directory where the telemetry folder is called `queue_tracing`: one message, sent and processed."""

import sys
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from queue_tracing.instrumentation import (  # type: ignore[import-not-found] # there only where it is run
    ConventionalTracerProvider,
    Destinations,
)
from queue_tracing.otlp_encoder import SpanEncoder  # type: ignore[import-not-found]
from queue_tracing.propagation import GuardedPropagator  # type: ignore[import-not-found]
from queue_tracing.redaction import MASK, Redaction  # type: ignore[import-not-found]
from queue_tracing.relations import link_to_related, previous_attempt  # type: ignore[import-not-found]

exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
propagate.set_global_textmap(GuardedPropagator(TraceContextTextMapPropagator()))
destinations = Destinations(routing_keys={"jobs": "resize"})
tracer = ConventionalTracerProvider(provider, destinations).get_tracer("a messaging library")

headers: dict[str, Any] = {}
sent = {"messaging.destination": "jobs,resize", "messaging.message.id": "for ada@example.com"}
with tracer.start_as_current_span("old", kind=trace.SpanKind.PRODUCER, attributes=sent):
    propagate.inject(headers)
    headers |= previous_attempt()
context = propagate.extract({"traceparent": 17}, propagate.extract(headers))
with tracer.start_as_current_span(
    "old", context, kind=trace.SpanKind.CONSUMER, attributes={"messaging.destination": "jobs"}
):
    link_to_related(headers)

request = ExportTraceServiceRequest.FromString(SpanEncoder(Redaction()).encode(exporter.get_finished_spans()))
(spans,) = [scope.spans for resource in request.resource_spans for scope in resource.scope_spans]
producer, consumer = spans
assert consumer.trace_id == producer.trace_id
assert consumer.parent_span_id == producer.span_id
assert [link.span_id for link in consumer.links] == [producer.span_id] * 2
assert any(pair.value.string_value == f"for {MASK}" for pair in producer.attributes)
assert not [name for name in sys.modules if name.partition(".")[0] in {"shared", "aio_pika", "pydantic"}]
print(*sorted(span.name for span in spans), sep="\n")
