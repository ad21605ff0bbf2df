"""The package as an application has it: instrumented in one call, spans and metrics in memory, a real broker."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustConnection
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from shared.telemetry import AioPikaTracing
from tests.system import VirtualHost
from tests.waiting import eventually_async


class Traced:
    """What was recorded."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("application")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended, first ended first."""
        return self._exporter.get_finished_spans()

    def named(self, prefix: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(prefix)]

    async def ended(self, prefix: str, count: int = 1) -> list[ReadableSpan]:
        """Wait until so many spans have ended."""
        await eventually_async(lambda: len(self.named(prefix)) >= count, what=f"{count} spans {prefix}")
        assert len(self.named(prefix)) == count
        return self.named(prefix)

    async def the(self, prefix: str) -> ReadableSpan:
        (span,) = await self.ended(prefix)
        return span

    def points(self, metric: str) -> list[dict[str, Any]]:
        """The attributes of each series of a metric."""
        return [dict(point.attributes or {}) for point in self._points(metric)]

    def count(self, histogram: str) -> int:
        """How often something was measured."""
        return sum(point.count for point in self._points(histogram))

    def _points(self, metric: str) -> list[Any]:
        found = self._reader.get_metrics_data()
        assert isinstance(found, MetricsData)
        return [
            point
            for resource in found.resource_metrics
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]


class Jobs:
    """A queue, and what it takes to fill it."""

    def __init__(self, queue: AbstractQueue, exchange: aio_pika.abc.AbstractExchange) -> None:
        self.queue: Any = queue  # whose type does not say that it can be looped over
        self.exchange = exchange

    async def send(self, count: int = 1, to: str = "jobs") -> None:
        for number in range(count):
            await self.exchange.publish(aio_pika.Message(str(number).encode()), to)

    async def carry_on(self) -> None:
        """Publish something further, to nobody."""
        await self.exchange.publish(aio_pika.Message(b""), "further", mandatory=False)


Instrument = Callable[..., Traced]


@pytest.fixture
def instrument() -> Iterator[Instrument]:
    """Instrument this process, with what the test says, until the test is over."""

    def begin(sampler: Sampler | None = None, **options: Any) -> Traced:
        traced = Traced(sampler)
        AioPikaTracing().instrument(tracer_provider=traced.tracers, meter_provider=traced.meters, **options)
        return traced

    yield begin
    if AioPikaTracing().is_instrumented_by_opentelemetry:
        AioPikaTracing().uninstrument()


@pytest.fixture
def traced(instrument: Instrument) -> Traced:
    """All that is recorded with the defaults."""
    return instrument()


@pytest_asyncio.fixture
async def connection(virtual_host: VirtualHost) -> AsyncIterator[AbstractRobustConnection]:
    """A connection to a virtual host of the test's own."""
    async with await aio_pika.connect_robust(virtual_host.amqp_url) as opened:
        yield opened


@pytest_asyncio.fixture
async def jobs(traced: Traced, connection: AbstractRobustConnection) -> Jobs:
    """A queue of jobs, traced with the defaults."""
    channel = await connection.channel()
    return Jobs(await channel.declare_queue("jobs"), channel.default_exchange)


async def acknowledge(message: AbstractIncomingMessage) -> None:
    await message.ack()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def links(span: ReadableSpan) -> dict[str, int]:
    """The span that is linked to, by the reason."""
    return {str((link.attributes or {})["link.reason"]): link.context.span_id for link in span.links}


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)
