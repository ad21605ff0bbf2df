"""What the environment says of telemetry: whether there is any, of which kind, where it goes, and who this process is."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import entry_points

from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from shared import __version__
from shared.service.otel_variables import BATCH_SIZE
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import Sender, sender_of, target_of

_log = logging.getLogger(__name__)

_SHARES = {"traces": 6 / 8, "metrics": 1 / 8, "logs": 1 / 8}
"""Of the buffer. A share each, so that no signal can push another out, and each knows what it can count on."""


def sender(signal: str, settings: TelemetrySettings, environ: Mapping[str, str]) -> Sender:
    """Make the sender of a signal: OTEL_* variables win over OPENOBSERVE_*."""
    url = settings.openobserve_url and (
        f"{settings.openobserve_url.rstrip('/')}/api/{settings.openobserve_org}/v1/{signal}"
    )
    target = target_of(signal, environ, url, settings.openobserve_headers)
    if settings.openobserve_password_file is not None and settings.openobserve_password is None and target.url == url:
        target = replace(target, late_headers=lambda: settings.openobserve_headers)
    return sender_of(signal, target, settings.telemetry_buffer_mb * 1e6 * _SHARES[signal], batch_size(signal, environ))


def batch_size(signal: str, environ: Mapping[str, str]) -> int:
    """Give the most items of a signal in one request; of metrics, each interval is one of its own."""
    if signal == "metrics":
        return 0
    return number(environ, f"OTEL_{_PROCESSORS[signal]}_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE)


_PROCESSORS = {"traces": "BSP", "logs": "BLRP"}


def is_off(environ: Mapping[str, str]) -> bool:
    """Tell whether all telemetry is switched off."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporter_name(signal: str, settings: TelemetrySettings, environ: Mapping[str, str]) -> str:
    """Give the exporter of a signal: the one that is asked for, else `otlp` where anybody has said where to, or `none`."""
    if is_off(environ):
        return "none"
    chosen = environ.get(f"OTEL_{signal.upper()}_EXPORTER")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    is_addressed = settings.openobserve_url is not None or any(environ.get(name) for name in endpoints)
    return chosen or ("otlp" if is_addressed else "none")


def number(environ: Mapping[str, str], name: str, default: int) -> int:
    """Read a number that `put_right` has left there."""
    return int(environ.get(name) or default)


def propagator(environ: Mapping[str, str]) -> TextMapPropagator:
    """Choose the propagators: trace context alone unless OTEL_PROPAGATORS asks for others, or for none.

    Baggage that a caller sends is the caller's data, personal data perhaps: it is passed on to nobody unasked.
    """
    names = environ.get("OTEL_PROPAGATORS", "tracecontext").split(",")
    if "none" in names:
        return CompositePropagator([])
    found = {entry.name: entry for entry in entry_points(group="opentelemetry_propagator")}
    chosen = []
    for name in names:
        try:
            chosen.append(found[name].load()())
        except Exception as error:  # of a package that is not ours: without it the rest still works
            _log.warning("OTEL_PROPAGATORS: %s cannot be loaded (%s) and is left out", name, type(error).__name__)
    return CompositePropagator(chosen)


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
