"""What the environment says of telemetry: whether there is any, of which kind, where it goes, and who this process is."""

import logging
import os
from collections.abc import Mapping

from opentelemetry import propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared import __version__
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import Sender, sender_of, target_of

_log = logging.getLogger(__name__)

BATCH_SIZE = 512
_SHARES = {"traces": 6 / 8, "metrics": 1 / 8, "logs": 1 / 8}
"""Of the buffer. A share each, so that no signal can push another out, and each knows what it can count on."""


def sender(signal: str, settings: TelemetrySettings, environ: Mapping[str, str]) -> Sender:
    """Make the sender of a signal: OTEL_* variables win over OPENOBSERVE_*."""
    url = settings.openobserve_url and (
        f"{settings.openobserve_url.rstrip('/')}/api/{settings.openobserve_org}/v1/{signal}"
    )
    target = target_of(signal, environ, url, settings.openobserve_headers)
    return sender_of(signal, target, settings.telemetry_buffer_mb * 1e6 * _SHARES[signal], batch_size(signal, environ))


def batch_size(signal: str, environ: Mapping[str, str]) -> int:
    """Give the most items of a signal in one request; of metrics, each interval is one of its own."""
    if signal == "metrics":
        return 0
    return positive(environ, f"OTEL_{_PROCESSORS[signal]}_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE)


_PROCESSORS = {"traces": "BSP", "logs": "BLRP"}


def is_off(environ: Mapping[str, str]) -> bool:
    """Tell whether all telemetry is switched off."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def has_backend(settings: TelemetrySettings, environ: Mapping[str, str]) -> bool:
    """Tell whether anybody has said where telemetry goes."""
    return settings.openobserve_url is not None or any(environ.get(name) for name in _NAMES_A_BACKEND)


_NAMES_A_BACKEND = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)


def exporter_name(signal: str, environ: Mapping[str, str]) -> str:
    """Give the exporter that is asked for: `otlp` unless a variable says otherwise."""
    return environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() or "otlp"


def positive(environ: Mapping[str, str], name: str, default: int) -> int:
    """Read a number; one that is none is said and passed over, as OpenTelemetry asks, because telemetry costs no start."""
    value = environ.get(name, "").strip()
    if value.isdecimal() and int(value) > 0:
        return int(value)
    if value:
        _log.warning("%s is not a positive number: %d is used", name, default)
    return default


def propagator(environ: Mapping[str, str]) -> TextMapPropagator:
    """Choose the propagators: trace context alone unless OTEL_PROPAGATORS asks for more.

    Baggage that a caller sends is the caller's data, personal data perhaps: it is passed on to nobody unasked.
    """
    return propagate.get_global_textmap() if "OTEL_PROPAGATORS" in environ else TraceContextTextMapPropagator()


def resource(service: str, settings: TelemetrySettings) -> Resource:
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
