"""What a shell holds for another tool, or for services that run elsewhere, and a stack of one's own passes over.

It is there to show orders and their traces: sampled away, switched off or sent to somebody else's Collector over a protocol
that is not spoken here, there is nothing to show.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from shared.service.otel_variables import VARIABLES

_BESIDE_A_BACKEND = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_PROPAGATORS",
    "OTEL_SERVICE_NAME",
)
_GRPC_PORT = 4317

PLAIN_SETTINGS = dict.fromkeys(
    (
        "DEFAULT_SKU",
        "INITIAL_STOCK",
        "LOG_LEVEL",
        "MAX_MESSAGE_BYTES",
        "REPLY_QUEUE_PREFIXES",
        "RETENTION_DAYS",
        "RETRY_DELAYS",
    ),
    "",
)
"""Settings that a demonstration needs as they are by default: empty ones are unset, and `.env` does not set them again."""


def has_backend(environ: Mapping[str, str]) -> bool:
    """Tell whether traces are to go to a backend that is given, rather than to the embedded receiver."""
    return bool(environ.get("OPENOBSERVE_URL")) or _speaks_http(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))


def _speaks_http(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in {"http", "https"} and parts.port != _GRPC_PORT
    except ValueError:
        return False


def in_the_way(environ: Mapping[str, str]) -> list[str]:
    """Name the variables that are set, and would keep a stack from showing what it is there for."""
    names = _BESIDE_A_BACKEND if has_backend(environ) else (*VARIABLES, "OPENOBSERVE_PUBLIC_URL")
    found = [name for name in names if environ.get(name) and name != "OTEL_RESOURCE_ATTRIBUTES"]
    has_names = "service." in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return [*found, *(["OTEL_RESOURCE_ATTRIBUTES"] if has_names else [])]


@contextmanager
def passed_over(say: Callable[[str], None]) -> Iterator[Mapping[str, str]]:
    """Give this process's environment without what is in the way, which is named; it is out of the process's own meanwhile.

    What is passed over is left empty rather than out: services read `.env`, which would set it again.
    """
    names = in_the_way(os.environ)
    kept = {name: os.environ.pop(name) for name in names}
    if names:
        say(f"passed over, so that there are traces to show here: {', '.join(names)}")
    try:
        yield {**os.environ, **dict.fromkeys(names, "")}
    finally:
        os.environ.update(kept)
