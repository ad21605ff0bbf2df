"""Telemetry from the environment to the providers, and its end: the only globals of this system are set here."""

import base64
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import requests
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.metrics import set_meter_provider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import __version__
from shared.contract import topology
from shared.service import logs
from shared.telemetry.ended_spans import RewritingProcessor, with_error_type
from shared.telemetry.export import LostSpans, WatchedBatchSpanProcessor, watching_session
from shared.telemetry.instrumentation import ConventionalTracerProvider, Destinations
from shared.telemetry.light_metrics import JoinedHistograms, JoiningMetricExporter, LightMeterProvider
from shared.telemetry.otlp_encoder import DirectSpanExporter
from shared.telemetry.propagation import GuardedPropagator
from shared.telemetry.redaction import RedactionProcessor
from shared.telemetry.sampling import LinkedSampler
from shared.tracing import instruments as metrics

_log = logging.getLogger(__name__)

_DESTINATIONS = Destinations(
    topology.destination_template,
    frozenset({topology.REPLY_QUEUE_TEMPLATE}),
    {topology.ORDERS_EXCHANGE: topology.INVENTORY_CHECK},
)

QUEUE_SIZE = 32_768
"""Spans that wait for export unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise; the SDK's 2,048 lose a third of them under load."""
BATCH_SIZE = 512
SCHEDULE_DELAY_MS = 1000
METRIC_INTERVAL_MS = 10_000.0
FLUSH_SECONDS = 5.0
"""Longest time that shutdown waits for a backend; what it has not taken by then is lost, the exit is not."""


class TelemetrySettings(BaseSettings):
    """Where telemetry goes when no OTEL_* variable says so, and what the resource says of this deployment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    openobserve_url: str | None = None
    openobserve_public_url: str | None = None
    """Where a person's browser finds OpenObserve, if that is not where the services do."""
    openobserve_org: str = "default"
    openobserve_user: str | None = None
    openobserve_password: SecretStr | None = None
    deployment_environment: str = "local"

    @property
    def openobserve_headers(self) -> dict[str, str]:
        """Give the Basic authorization that OpenObserve asks for; empty without a user."""
        if self.openobserve_user is None or self.openobserve_password is None:
            return {}
        pair = f"{self.openobserve_user}:{self.openobserve_password.get_secret_value()}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def trace_url(self, trace_id: str, start_us: int, end_us: int) -> str | None:
        """Give OpenObserve's deep link to a trace, times in microseconds since the epoch; None without OpenObserve."""
        url = self.openobserve_public_url or self.openobserve_url
        if url is None:
            return None
        return (
            f"{url.rstrip('/')}/web/traces/trace-details?stream=default&trace_id={trace_id}"
            f"&from={start_us}&to={end_us}&org_identifier={self.openobserve_org}"
        )


class _Provider(Protocol):
    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What was set up, so that it can be ended."""

    instance: str
    providers: Sequence[_Provider] = ()

    def shutdown(self) -> None:
        """Send what is left and stop, in at most FLUSH_SECONDS even where the backend hangs."""
        AioPikaInstrumentor().uninstrument()
        flushing = [threading.Thread(target=provider.shutdown, daemon=True) for provider in self.providers]
        for thread in flushing:
            thread.start()
        deadline = time.monotonic() + FLUSH_SECONDS
        for thread in flushing:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in flushing):
            _log.warning("the telemetry backend did not take the last of the telemetry within %.0f s", FLUSH_SECONDS)


def start(service: str, settings: TelemetrySettings, environ: Mapping[str, str] = os.environ) -> Telemetry:
    """Set the global propagator and, for each signal that has an exporter, the global provider."""
    resource = _resource(service, settings)
    instance = str(resource.attributes["service.instance.id"])
    propagate.set_global_textmap(GuardedPropagator(_propagator(environ)))
    if _is_off(environ):
        return Telemetry(instance)
    if not _has_backend(settings, environ):
        _log.warning(
            "no telemetry backend is configured (OPENOBSERVE_URL or OTEL_EXPORTER_OTLP_ENDPOINT): running untraced"
        )
        return Telemetry(instance)
    started: list[_Provider | None] = [
        _start_metrics(resource, settings, environ),
        _start_logs(resource, settings, environ),
    ]
    # Traces come last: their first account of lost spans goes to the metrics.
    started.append(_start_traces(resource, settings, environ))
    return Telemetry(instance, [provider for provider in started if provider is not None])


def _start_traces(resource: Resource, settings: TelemetrySettings, environ: Mapping[str, str]) -> TracerProvider | None:
    capacity = _positive(environ, "OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE)
    batch = min(_positive(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE), capacity)  # else the SDK raises
    delay_ms = _positive(environ, "OTEL_BSP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS)
    lost = LostSpans(capacity)
    exporter = span_exporter(settings, environ, watching_session(lost))
    if exporter is None:
        return None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    # The SDK has read OTEL_TRACES_SAMPLER by now, and gives what it made of it nowhere else.
    sampler = provider.sampler = LinkedSampler(provider.sampler)
    watched = WatchedBatchSpanProcessor(exporter, lost, capacity, delay_ms, batch)
    provider.add_span_processor(RedactionProcessor(RewritingProcessor(with_error_type, watched)))
    trace.set_tracer_provider(provider)
    metrics.observe_lost_spans(lost.by_reason)
    AioPikaInstrumentor().instrument(
        tracer_provider=ConventionalTracerProvider(provider, _DESTINATIONS, follows_parents=sampler.follows_parents)
    )
    return provider


def _start_metrics(resource: Resource, settings: TelemetrySettings, environ: Mapping[str, str]) -> MeterProvider | None:
    if _exporter_name(environ, "METRICS") != "otlp":
        return None
    histograms = JoinedHistograms()
    exporter = JoiningMetricExporter(histograms, **_target(settings, environ, "metrics"))
    interval = None if environ.get("OTEL_METRIC_EXPORT_INTERVAL") else METRIC_INTERVAL_MS
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, interval)], resource, shutdown_on_exit=False)
    asks_for_more = any(environ.get(name) for name in _ONLY_THE_SDK_DOES)
    set_meter_provider(provider if asks_for_more else LightMeterProvider(provider, histograms))
    return provider


_ONLY_THE_SDK_DOES = ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "OTEL_METRICS_EXEMPLAR_FILTER")
"""What the light histograms do not know: they have the buckets of the conventions, and exemplars of sampled spans."""


def _start_logs(resource: Resource, settings: TelemetrySettings, environ: Mapping[str, str]) -> LoggerProvider | None:
    if _exporter_name(environ, "LOGS") != "otlp":
        return None
    exporter = OTLPLogExporter(**_target(settings, environ, "logs"))
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logs.send_to(provider)
    return provider


def span_exporter(
    settings: TelemetrySettings, environ: Mapping[str, str], session: requests.Session | None = None
) -> SpanExporter | None:
    """Choose the exporter of spans: OTEL_* variables win over OPENOBSERVE_*; None where traces are switched off."""
    chosen = _exporter_name(environ, "TRACES")
    if _is_off(environ) or not _has_backend(settings, environ) or chosen == "none":
        return None
    if chosen == "console":
        return ConsoleSpanExporter()
    return DirectSpanExporter(**_target(settings, environ, "traces"), session=session)


def _positive(environ: Mapping[str, str], name: str, default: int) -> int:
    """Read a number; one that is none is said and passed over, as OpenTelemetry asks, because telemetry costs no start."""
    value = environ.get(name, "").strip()
    if value.isdecimal() and int(value) > 0:
        return int(value)
    if value:
        _log.warning("%s is not a positive number: %d is used", name, default)
    return default


def _is_off(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _has_backend(settings: TelemetrySettings, environ: Mapping[str, str]) -> bool:
    return settings.openobserve_url is not None or any(environ.get(name) for name in _NAMES_A_BACKEND)


_NAMES_A_BACKEND = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)


def _exporter_name(environ: Mapping[str, str], signal: str) -> str:
    return environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() or "otlp"


def _target(settings: TelemetrySettings, environ: Mapping[str, str], signal: str) -> dict[str, Any]:
    """Give an OTLP exporter its target; nothing where an OTEL_* variable has it, which the exporter reads itself."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get(own) or settings.openobserve_url is None:
        return {}
    return {
        "endpoint": f"{settings.openobserve_url.rstrip('/')}/api/{settings.openobserve_org}/v1/{signal}",
        "headers": settings.openobserve_headers,
    }


def _propagator(environ: Mapping[str, str]) -> TextMapPropagator:
    """Choose the propagators: trace context alone unless OTEL_PROPAGATORS asks for more.

    Baggage that a caller sends is the caller's data, personal data perhaps: it is passed on to nobody unasked.
    """
    return propagate.get_global_textmap() if "OTEL_PROPAGATORS" in environ else TraceContextTextMapPropagator()


def _resource(service: str, settings: TelemetrySettings) -> Resource:
    """Describe this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is known here."""
    known = Resource.create(
        {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": f"{os.uname().nodename}-{os.getpid()}",
            "deployment.environment.name": settings.deployment_environment,
        }
    )
    return known.merge(OTELResourceDetector().detect())
