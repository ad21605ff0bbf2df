"""Run by a test in a directory where the telemetry folder is called `queue_tracing`: one message, sent and processed."""

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import aio_pika
from aio_pika.message import IncomingMessage
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from queue_tracing import (  # type: ignore[import-not-found] # there only where it is run
    AioPikaTracing,
    previous_attempt,
)
from queue_tracing.otlp_encoder import SpanEncoder  # type: ignore[import-not-found]
from queue_tracing.redaction import MASK, Redaction  # type: ignore[import-not-found]
from yarl import URL


class Channel:
    """A broker of one queue: what is published is delivered at once to who consumes, a hostile header with it."""

    _connection = SimpleNamespace(url=URL("amqp://broker"), connection=SimpleNamespace(url=URL("amqp://broker")))
    is_closed = False

    async def get_underlay_channel(self) -> "Channel":
        return self

    async def basic_consume(self, *, consumer_callback: Any, **_: Any) -> Any:
        self.deliver = consumer_callback
        return SimpleNamespace(consumer_tag="tag")

    async def basic_publish(self, *, body: bytes, properties: Any, routing_key: str, exchange: str, **_: Any) -> None:
        header = SimpleNamespace(properties=properties)
        await self.deliver(
            SimpleNamespace(
                channel=self, body=body, header=header, consumer_tag="tag", delivery_tag=1, exchange=exchange,
                message_count=0, redelivered=False, routing_key=routing_key,
            )
        )  # fmt: skip

    async def basic_ack(self, **_: Any) -> None: ...


async def main() -> None:
    channel: Any = Channel()
    jobs = aio_pika.Exchange(channel, "jobs")
    queue = aio_pika.Queue(channel, "resize", True, False, False, None)

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        assert isinstance(message, IncomingMessage)
        async with message.process():
            pass

    await queue.consume(handle)
    message = aio_pika.Message(b"", headers={"baggage": 17, **previous_attempt()}, message_id="for ada@example.com")
    await jobs.publish(message, "resize")


exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
AioPikaTracing().instrument(tracer_provider=provider)
with provider.get_tracer("app").start_as_current_span("upload"):
    asyncio.run(main())
AioPikaTracing().uninstrument()

request = ExportTraceServiceRequest.FromString(SpanEncoder(Redaction()).encode(exporter.get_finished_spans()))
spans = {
    span.name: span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
}
producer, consumer = spans["send jobs"], spans["process jobs:resize"]
assert consumer.trace_id == producer.trace_id
assert consumer.parent_span_id == producer.span_id
assert [link.span_id for link in consumer.links] == [producer.span_id, spans["upload"].span_id]
assert any(pair.value.string_value == f"for {MASK}" for pair in producer.attributes)
assert not [name for name in sys.modules if name.partition(".")[0] in {"shared", "pydantic"}]
print(*sorted(spans), sep="\n")
