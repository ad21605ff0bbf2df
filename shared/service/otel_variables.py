"""Every `OTEL_*` variable that the SDK names, in one table: what it takes here, or that it has no effect here, and why.

The SDK itself ends the start over some wrong values, hangs over others, and reads empty ones as no limit. So the environment
is put right before OpenTelemetry is imported: what is wrong is said once and taken out, what is empty counts as unset, as
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ has it, and the SDK finds only what it takes.
"""

from collections.abc import Mapping, MutableMapping

from shared.service.otel_kinds import (
    ADDRESS,
    ANY,
    BOOLEAN,
    FILE,
    SHARE,
    Kind,
    installed,
    is_header,
    one_of,
    pairs,
    whole_number,
    without_effect,
)

QUEUE_SIZES = {"BSP": 32_768, "BLRP": 2048}
"""Spans and log records that wait for export; of spans the SDK's own 2,048 lose a third under load."""
BATCH_SIZE = 512

_NO_PLUGINS = without_effect("providers are set up by the service itself, not by the SDK's own configuration")
_NO_LAUNCHER = without_effect("it is for `opentelemetry-instrument`, which a service needs no more")
_NO_TIMEOUT = without_effect(
    "an export is a hand-over to a sender that has OTEL_EXPORTER_OTLP_TIMEOUT for each attempt"
)
_NO_CREDENTIALS = without_effect("headers and client certificates are the credentials")
_NO_GRPC = without_effect("telemetry goes out as OTLP over HTTP")

_LIMITS = (
    "ATTRIBUTE_COUNT",
    "ATTRIBUTE_VALUE_LENGTH",
    "EVENT_ATTRIBUTE_COUNT",
    "LINK_ATTRIBUTE_COUNT",
    "SPAN_ATTRIBUTE_COUNT",
    "SPAN_ATTRIBUTE_VALUE_LENGTH",
    "LOGRECORD_ATTRIBUTE_COUNT",
    "LOGRECORD_ATTRIBUTE_VALUE_LENGTH",
    "SPAN_EVENT_COUNT",
    "SPAN_LINK_COUNT",
)
_OTLP: Mapping[str, Kind] = {
    "ENDPOINT": ADDRESS,
    "HEADERS": pairs("headers", is_header),
    "TIMEOUT": whole_number(1, "milliseconds"),
    "COMPRESSION": one_of("gzip", "none"),
    "CERTIFICATE": FILE,
    "CLIENT_CERTIFICATE": FILE,
    "CLIENT_KEY": FILE,
    "PROTOCOL": one_of("http/protobuf", but="grpc and http/json are not spoken here"),
    "INSECURE": BOOLEAN,  # for gRPC alone, says the specification
}
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_BATCHES: Mapping[str, Kind] = {
    "SCHEDULE_DELAY": whole_number(1, "milliseconds"),
    "EXPORT_TIMEOUT": _NO_TIMEOUT,
    "MAX_QUEUE_SIZE": whole_number(1),
    "MAX_EXPORT_BATCH_SIZE": whole_number(1),
}

VARIABLES: Mapping[str, Kind] = {
    "OTEL_SDK_DISABLED": BOOLEAN,
    "OTEL_SERVICE_NAME": ANY,
    "OTEL_RESOURCE_ATTRIBUTES": pairs("attributes"),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": installed("opentelemetry_resource_detector", "*"),
    "OTEL_PROPAGATORS": installed("opentelemetry_propagator", "none"),
    "OTEL_TRACES_SAMPLER": one_of(*_SAMPLERS, *(f"parentbased_{name}" for name in _SAMPLERS)),
    "OTEL_TRACES_SAMPLER_ARG": SHARE,
    "OTEL_TRACES_EXPORTER": one_of("otlp", "console", "none"),
    "OTEL_METRICS_EXPORTER": one_of("otlp", "none"),
    "OTEL_LOGS_EXPORTER": one_of("otlp", "none"),
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{name}": kind
        for signal in ("", "TRACES_", "METRICS_", "LOGS_")
        for name, kind in _OTLP.items()
    },
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": one_of("cumulative", "delta", "lowmemory"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": one_of(
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    **{f"OTEL_{prefix}_{name}": kind for prefix in QUEUE_SIZES for name, kind in _BATCHES.items()},
    "OTEL_METRIC_EXPORT_INTERVAL": whole_number(1, "milliseconds"),
    "OTEL_METRIC_EXPORT_TIMEOUT": _NO_TIMEOUT,
    "OTEL_METRICS_EXEMPLAR_FILTER": one_of("always_on", "always_off", "trace_based"),
    **dict.fromkeys((f"OTEL_{name}_LIMIT" for name in _LIMITS), whole_number(0)),
    "OTEL_PYTHON_CONTEXT": installed("opentelemetry_context"),
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": BOOLEAN,
    "OTEL_SEMCONV_STABILITY_OPT_IN": without_effect("names are those of today's conventions already"),
    "OTEL_CONFIG_FILE": without_effect("configuration files are not supported, only variables"),
    "OTEL_LOG_LEVEL": without_effect("LOG_LEVEL is for all logs"),
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": without_effect("logs carry the trace and go out in any case"),
    **dict.fromkeys(
        (
            "OTEL_PYTHON_ID_GENERATOR",
            *(
                f"OTEL_PYTHON_{signal}_{part}"
                for signal in ("TRACER", "METER", "LOGGER")
                for part in ("PROVIDER", "CONFIGURATOR")
            ),
        ),
        _NO_PLUGINS,
    ),
    **dict.fromkeys(
        (
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            "OTEL_PYTHON_DISTRO",
            "OTEL_PYTHON_CONFIGURATOR",
            "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH",
        ),
        _NO_LAUNCHER,
    ),
    **dict.fromkeys(
        (
            f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal}CREDENTIAL_PROVIDER"
            for signal in ("", "TRACES_", "METRICS_", "LOGS_")
        ),
        _NO_CREDENTIALS,
    ),
    **dict.fromkeys(
        (
            "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES",
            *(
                f"OTEL_PYTHON_EXPORTER_OTLP_GRPC_{signal}CREDENTIAL_PROVIDER"
                for signal in ("", "TRACES_", "METRICS_", "LOGS_")
            ),
        ),
        _NO_GRPC,
    ),
    **dict.fromkeys(
        (
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
            "OTEL_EXPORTER_ZIPKIN_TIMEOUT",
            "OTEL_EXPORTER_PROMETHEUS_HOST",
            "OTEL_EXPORTER_PROMETHEUS_PORT",
        ),
        without_effect("telemetry goes out as OTLP and nothing else"),
    ),
}
"""What the SDK names beyond this table, a test finds."""


def put_right(environ: MutableMapping[str, str]) -> list[str]:
    """Leave in an environment only what can be honoured, and say of each variable that was not, in one sentence, why."""
    said = []
    for name, kind in VARIABLES.items():
        value = environ.get(name, "").strip()
        reading = kind.read(value) if value else None
        if reading is not None and reading.wrong:
            said.append(_sentence(name, reading.kept, reading.wrong))
        if reading is not None and reading.kept:
            environ[name] = reading.kept
        else:
            environ.pop(name, None)
    return said + [sentence for processor in QUEUE_SIZES if (sentence := _bound_batch(environ, processor))]


def _sentence(name: str, kept: str, wrong: str) -> str:
    rest = "" if wrong.startswith("it has no effect") else "; the rest counts" if kept else "; the default counts"
    return f"{name}: {wrong}{rest}"


def _bound_batch(environ: MutableMapping[str, str], processor: str) -> str:
    """Let no batch be larger than its queue: the SDK does not start with one."""
    queue_name, batch_name = (f"OTEL_{processor}_MAX_{what}" for what in ("QUEUE_SIZE", "EXPORT_BATCH_SIZE"))
    queue = environ.get(queue_name, str(QUEUE_SIZES[processor]))
    batch = environ.get(batch_name)
    if int(batch or BATCH_SIZE) <= int(queue):
        return ""
    environ[batch_name] = queue
    return "" if batch is None else f"{batch_name}: it is more than {queue_name}; {queue} counts"
