"""Where one signal goes and how, from the standard OTEL_EXPORTER_OTLP_* variables: address, headers, time, TLS and proxies.

This is the one place that decides what of the environment counts. A signal's own variable wins over the general one, and either
over what is known otherwise; what is configured for telemetry wins over what is there for every HTTP client.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from opentelemetry.sdk.version import __version__
from opentelemetry.util.re import parse_env_headers
from requests.utils import should_bypass_proxies

_log = logging.getLogger(__name__)

COLLECTOR = "http://localhost:4318"
TIMEOUT_MS = 10_000
"""Default of the specification, which counts these variables in milliseconds; the Python exporters read them as seconds."""
_HARDLY_MEANT_MS = 100


@dataclass(frozen=True, slots=True)
class Target:
    """An OTLP/HTTP endpoint for one signal."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = TIMEOUT_MS / 1000
    """Seconds to connect, and seconds of silence until an attempt has failed."""
    is_compressed: bool = True
    """Whether bodies go over the wire as gzip, which every OTLP server takes."""
    certificate: str | bool = True
    """The file of the authorities that are trusted; True for those that everybody trusts."""
    client_certificate: str | tuple[str, str] | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    late_headers: Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)
    """Headers that are asked for at each attempt, as they may come or change; while there are none, nothing is sent."""

    @property
    def address(self) -> str:
        """The URL as it may be shown."""
        return shown_url(self.url)


def shown_url(url: str) -> str:
    """Give a URL without user, password and query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path


def target_of(
    signal: str, environ: Mapping[str, str], url: str | None = None, headers: Mapping[str, str] | None = None
) -> Target:
    """Give the target of `traces`, `metrics` or `logs`; `url` and `headers` are for where no variable names an endpoint."""
    own, general = _value(environ, f"{signal.upper()}_ENDPOINT"), _value(environ, "ENDPOINT")
    if own or general or url is None:
        url, headers = own or f"{(general or COLLECTOR).rstrip('/')}/v1/{signal}", {}
    asked_for = parse_env_headers(_of(environ, signal, "HEADERS"), liberal=True)
    certificate, key = _of(environ, signal, "CLIENT_CERTIFICATE"), _of(environ, signal, "CLIENT_KEY")
    return Target(
        url,
        {
            **asked_for,
            **(headers or {}),
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"OTel-OTLP-Exporter-Python/{__version__}",
        },
        _timeout(environ, signal),
        _is_compressed(environ, signal),
        _of(environ, signal, "CERTIFICATE") or _authorities_of_everybody(environ),
        (certificate, key) if certificate and key else certificate or None,
        _proxies(url, environ),
    )


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _of(environ: Mapping[str, str], signal: str, name: str) -> str:
    return _value(environ, f"{signal.upper()}_{name}") or _value(environ, name)


def _timeout(environ: Mapping[str, str], signal: str) -> float:
    value = _of(environ, signal, "TIMEOUT")
    if not value.isdecimal() or int(value) == 0:
        if value:
            _log.warning("OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds: %d is used", TIMEOUT_MS)
        return TIMEOUT_MS / 1000
    if int(value) < _HARDLY_MEANT_MS:
        _log.warning("OTEL_EXPORTER_OTLP_TIMEOUT counts milliseconds: each attempt has %s of them", value)
    return int(value) / 1000


def _is_compressed(environ: Mapping[str, str], signal: str) -> bool:
    value = _of(environ, signal, "COMPRESSION").lower()
    if value not in {"", "gzip", "none"}:
        _log.warning("OTEL_EXPORTER_OTLP_COMPRESSION is neither gzip nor none: gzip is used")
    return value != "none"


def _authorities_of_everybody(environ: Mapping[str, str]) -> str | bool:
    return environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or True


def _proxies(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the proxy for a URL: none for loopback, which a proxy would look for on its own machine."""
    parts = urlsplit(url)
    proxy = _either_case(environ, f"{parts.scheme}_proxy") or _either_case(environ, "all_proxy")
    if not proxy or is_loopback(parts.hostname or "") or should_bypass_proxies(url, _either_case(environ, "no_proxy")):
        return {}
    return {parts.scheme: proxy}


def _either_case(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
