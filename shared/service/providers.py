"""The providers of the three signals, from their start to their end: the only globals of this system are set here."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from opentelemetry import propagate, trace
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from shared.contract import topology
from shared.service import logs
from shared.service import telemetry_environment as environment
from shared.service.otel_variables import QUEUE_SIZES
from shared.service.span_export import redaction, span_exporter
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import (
    FLUSH_SECONDS,
    AioPikaTracing,
    BufferedLogExporter,
    BufferedMetricExporter,
    BufferedSpanExporter,
    CountedBatchLogRecordProcessor,
    CountedBatchSpanProcessor,
    Destination,
    GuardedPropagator,
    JoinedHistograms,
    LightMeterProvider,
    LinkedSampler,
    Sender,
    Template,
)
from shared.tracing import instruments as metrics

_log = logging.getLogger(__name__)

SCHEDULE_DELAY_MS = 1000
METRIC_INTERVAL_MS = 10_000.0
_ACCOUNTING_SECONDS = 0.2


class _Provider(Protocol):
    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Signal:
    """A signal that was set up."""

    provider: _Provider
    sender: Sender | None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What was set up, so that it can be ended."""

    instance: str
    signals: tuple[_Signal, ...] = ()
    report: Callable[[], None] = lambda: None
    """Exports the metrics as they stand, and waits for nobody."""

    def shutdown(self) -> None:
        """Send what is left, count and say what is lost, and stop: in at most FLUSH_SECONDS, even where the backend hangs."""
        if AioPikaTracing().is_instrumented_by_opentelemetry:
            AioPikaTracing().uninstrument()
        deadline = time.monotonic() + FLUSH_SECONDS
        flushing = [threading.Thread(target=signal.provider.shutdown, daemon=True) for signal in self.signals]
        for thread in flushing:
            thread.start()
        for thread in flushing:
            thread.join(max(0.0, deadline - _ACCOUNTING_SECONDS - time.monotonic()))
        for signal in self.signals:
            if signal.sender is not None:
                signal.sender.end(max(0.0, deadline - time.monotonic()))


def start(service: str, settings: TelemetrySettings, environ: Mapping[str, str] = os.environ) -> Telemetry:
    """Set the global propagator and, for each signal that has an exporter, the global provider."""
    resource = environment.resource(service, settings)
    instance = str(resource.attributes["service.instance.id"])
    propagate.set_global_textmap(GuardedPropagator(environment.propagator(environ)))
    if environment.is_off(environ):
        _log.warning("OTEL_SDK_DISABLED switches telemetry off: running untraced")
        return Telemetry(instance)
    metered, logged = _start_metrics(resource, settings, environ), _start_logs(resource, settings, environ)
    measured = metered and metered[0]
    # Traces come after metrics: their first account of lost spans goes there.
    traced = _start_traces(resource, settings, environ)
    if measured or traced:
        AioPikaTracing().instrument(
            tracer_provider=traced.provider if traced else trace.NoOpTracerProvider(), destination_template=_template
        )
    signals = tuple(signal for signal in (measured, logged, traced) if signal is not None)
    if not signals:
        _log.warning(
            "no telemetry backend is configured (OPENOBSERVE_URL or OTEL_EXPORTER_OTLP_ENDPOINT): running untraced"
        )
    return Telemetry(instance, signals, metered[1].collect) if metered else Telemetry(instance, signals)


def _start_traces(resource: Resource, settings: TelemetrySettings, environ: Mapping[str, str]) -> _Signal | None:
    exporter = span_exporter(settings, environ)
    if exporter is None:
        return None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    # The SDK has read OTEL_TRACES_SAMPLER by now, and gives what it made of it nowhere else.
    provider.sampler = LinkedSampler(provider.sampler, trusts_callers=settings.trust_callers_sampling)
    provider.add_span_processor(_batching(exporter, environ))
    trace.set_tracer_provider(provider)
    return _watched(provider, exporter.sender if isinstance(exporter, BufferedSpanExporter) else None)


def _template(destination: Destination) -> Template:
    """Give the form of a destination of ours, which is its name for all but the queues for replies."""
    text = topology.destination_template(destination.name) or destination.name
    return Template(text, text == topology.REPLY_QUEUE_TEMPLATE, topology.asker(destination.name))


def _batching(exporter: SpanExporter, environ: Mapping[str, str]) -> SpanProcessor:
    capacity = environment.number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZES["BSP"])
    delay_ms = environment.number(environ, "OTEL_BSP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS)
    if isinstance(exporter, BufferedSpanExporter):
        batch = min(exporter.sender.batch_size, capacity)  # else the SDK raises
        return CountedBatchSpanProcessor(exporter, exporter.sender.account, capacity, delay_ms, batch)
    return BatchSpanProcessor(exporter, capacity, delay_ms, min(environment.batch_size("traces", environ), capacity))


def _start_metrics(
    resource: Resource, settings: TelemetrySettings, environ: Mapping[str, str]
) -> tuple[_Signal, MetricReader] | None:
    if environment.exporter_name("metrics", settings, environ) != "otlp":
        return None
    histograms = JoinedHistograms()
    exporter = BufferedMetricExporter(environment.sender("metrics", settings, environ), histograms)
    interval = None if environ.get("OTEL_METRIC_EXPORT_INTERVAL") else METRIC_INTERVAL_MS
    reader = PeriodicExportingMetricReader(exporter, interval)
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    set_meter_provider(provider if needs_the_sdk(environ) else LightMeterProvider(provider, histograms))
    return _watched(provider, exporter.sender), reader


def needs_the_sdk(environ: Mapping[str, str]) -> bool:
    """Tell whether something is asked for that only the SDK's own counters and histograms do."""
    # Light counters are observable ones of the SDK, which `lowmemory` keeps cumulative, unlike other counters.
    is_low = environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").lower() == "lowmemory"
    return is_low or any(environ.get(name) for name in _ONLY_THE_SDK_DOES)


_ONLY_THE_SDK_DOES = ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "OTEL_METRICS_EXEMPLAR_FILTER")
"""What the light histograms do not know: they have the buckets of the conventions, and exemplars of sampled spans."""


def _start_logs(resource: Resource, settings: TelemetrySettings, environ: Mapping[str, str]) -> _Signal | None:
    if environment.exporter_name("logs", settings, environ) != "otlp":
        return None
    exporter = BufferedLogExporter(environment.sender("logs", settings, environ))
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(CountedBatchLogRecordProcessor(exporter, exporter.sender.account))
    logs.send_to(provider, redaction(settings))
    return _watched(provider, exporter.sender)


def _watched(provider: _Provider, sender: Sender | None) -> _Signal:
    if sender is not None:
        metrics.observe_lost(sender.account.noun, sender.account.by_reason)
    return _Signal(provider, sender)
