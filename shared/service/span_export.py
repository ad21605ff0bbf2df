"""What exports spans, and what is masked in them."""

from collections.abc import Callable, Mapping, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from shared.service import telemetry_environment as environment
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import (
    PERSONAL_NAMES,
    BufferedSpanExporter,
    RedactingSpanExporter,
    Redaction,
    SpanEncoder,
    with_error_type,
)


def span_exporter(settings: TelemetrySettings, environ: Mapping[str, str]) -> SpanExporter | None:
    """Choose the exporter of spans: OTEL_* variables win over OPENOBSERVE_*; None where traces are switched off."""
    chosen = environment.exporter_name("traces", settings, environ)
    if chosen == "none":
        return None
    if chosen == "console":
        return RedactingSpanExporter(ConsoleSpanExporter(), redaction(settings))
    return BufferedSpanExporter(environment.sender("traces", settings, environ), _encoding(settings))


def redaction(settings: TelemetrySettings) -> Redaction:
    """Say what is personal here."""
    names = PERSONAL_NAMES | {name.strip() for name in settings.redact_names.split(",")}
    return Redaction(names, filter(None, [settings.redact_pattern]), kept_in_queries={"order_id"})


def _encoding(settings: TelemetrySettings) -> Callable[[Sequence[ReadableSpan]], bytes]:
    masked = redaction(settings)
    if settings.span_encoder == "direct":
        return SpanEncoder(masked).encode
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return lambda spans: encode_spans([masked.span(with_error_type(span)) for span in spans]).SerializeToString()
