"""Telemetry from the environment to the providers, and its end: the only globals of this system are set here."""

import base64
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import __version__
from shared.telemetry.messaging import ConventionalTracerProvider, ErrorTypeProcessor
from shared.telemetry.propagation import GuardedPropagator
from shared.telemetry.redaction import RedactionProcessor

_log = logging.getLogger(__name__)

QUEUE_SIZE = 32_768
"""Spans that wait for export unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise; the SDK's 2,048 lose a third of them under load."""
SCHEDULE_DELAY_MS = 1000.0
FLUSH_SECONDS = 5.0
"""Longest time that shutdown waits for a backend; what it has not taken by then is lost, the exit is not."""


class TelemetrySettings(BaseSettings):
    """Where telemetry goes when no OTEL_* variable says so, and what the resource says of this deployment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    openobserve_url: str | None = None
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
        if self.openobserve_url is None:
            return None
        return (
            f"{self.openobserve_url.rstrip('/')}/web/traces/trace-details?stream=default&trace_id={trace_id}"
            f"&from={start_us}&to={end_us}&org_identifier={self.openobserve_org}"
        )


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What was set up, so that it can be ended."""

    instance: str
    provider: TracerProvider | None

    def shutdown(self) -> None:
        """Send what is left and stop, in at most FLUSH_SECONDS even where the backend hangs."""
        if self.provider is None:
            return
        AioPikaInstrumentor().uninstrument()
        flushing = threading.Thread(target=self.provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            _log.warning("the telemetry backend did not take the last spans within %.0f s", FLUSH_SECONDS)


def start(service: str, settings: TelemetrySettings, environ: Mapping[str, str] = os.environ) -> Telemetry:
    """Set the global propagator and, where an exporter is configured, the global tracer provider."""
    resource = _resource(service, settings)
    instance = str(resource.attributes["service.instance.id"])
    propagate.set_global_textmap(GuardedPropagator(_propagator(environ)))
    exporter = span_exporter(settings, environ)
    if exporter is None:
        _log.warning(
            "no telemetry backend is configured (OPENOBSERVE_URL or OTEL_EXPORTER_OTLP_ENDPOINT): running untraced"
        )
        return Telemetry(instance, None)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(ErrorTypeProcessor())
    provider.add_span_processor(RedactionProcessor(_batch_processor(exporter, environ)))
    trace.set_tracer_provider(provider)
    AioPikaInstrumentor().instrument(tracer_provider=ConventionalTracerProvider(provider))
    return Telemetry(instance, provider)


def span_exporter(settings: TelemetrySettings, environ: Mapping[str, str]) -> SpanExporter | None:
    """Choose the exporter: OTEL_* variables win over OPENOBSERVE_*; None where neither names a backend."""
    chosen = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or chosen == "none":
        return None
    if chosen == "console":
        return ConsoleSpanExporter()
    if chosen == "otlp" or any(
        environ.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ):
        return OTLPSpanExporter()
    if settings.openobserve_url is None:
        return None
    return OTLPSpanExporter(
        endpoint=f"{settings.openobserve_url.rstrip('/')}/api/{settings.openobserve_org}/v1/traces",
        headers=settings.openobserve_headers,
    )


def _batch_processor(exporter: SpanExporter, environ: Mapping[str, str]) -> BatchSpanProcessor:
    """Make the batch processor with our defaults; None leaves a value to the OTEL_BSP_* variable that names it."""
    return BatchSpanProcessor(
        exporter,
        max_queue_size=None if "OTEL_BSP_MAX_QUEUE_SIZE" in environ else QUEUE_SIZE,
        schedule_delay_millis=None if "OTEL_BSP_SCHEDULE_DELAY" in environ else SCHEDULE_DELAY_MS,
    )


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
