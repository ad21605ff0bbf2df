"""Where telemetry goes: OTEL_* variables win, OPENOBSERVE_* is the short way, and nothing at all is allowed."""

import io
import json
import logging

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from pydantic import ValidationError

from shared.service import logs
from shared.service.providers import needs_the_sdk
from shared.service.span_export import span_exporter
from shared.service.telemetry_environment import exporter_name, propagator
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry.exporters import BufferedSpanExporter
from shared.telemetry.redaction import RedactingSpanExporter

OPENOBSERVE = {
    "openobserve_url": "http://127.0.0.1:5080/",
    "openobserve_user": "root@example.com",
    "openobserve_password": "secret",
}


def _settings(**values: str) -> TelemetrySettings:
    return TelemetrySettings.model_validate(values)


def test_openobserve_gets_its_path_and_basic_authorization() -> None:
    settings = _settings(**OPENOBSERVE)

    exporter = span_exporter(settings, {})

    assert isinstance(exporter, BufferedSpanExporter)
    assert exporter.sender.account.address == "http://127.0.0.1:5080/api/default/v1/traces"
    assert settings.openobserve_headers == {"Authorization": "Basic cm9vdEBleGFtcGxlLmNvbTpzZWNyZXQ="}


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_otlp_endpoint_wins_over_openobserve(name: str) -> None:
    exporter = span_exporter(_settings(**OPENOBSERVE), {name: "http://collector:4318"})

    assert isinstance(exporter, BufferedSpanExporter)
    assert exporter.sender.account.address.startswith("http://collector:4318")


@pytest.mark.parametrize(
    "environ", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_tracing_can_be_switched_off(environ: dict[str, str]) -> None:
    assert span_exporter(_settings(**OPENOBSERVE), environ) is None


@pytest.mark.parametrize("value", ["0", "-1", "much", "inf", "nan"])
def test_a_buffer_of_no_sensible_size_is_no_setting(value: str) -> None:
    with pytest.raises(ValidationError):
        _settings(telemetry_buffer_mb=value)


def test_without_a_backend_there_is_no_exporter() -> None:
    assert span_exporter(_settings(), {}) is None


def test_spans_can_go_to_the_console() -> None:
    assert isinstance(span_exporter(_settings(), {"OTEL_TRACES_EXPORTER": "console"}), RedactingSpanExporter)


def test_the_password_is_in_no_representation_of_the_settings() -> None:
    assert "secret" not in repr(_settings(**OPENOBSERVE))


def test_the_trace_url_is_openobserves_deep_link() -> None:
    assert _settings(**OPENOBSERVE).trace_url("a" * 32, 1, 2) == (
        f"http://127.0.0.1:5080/web/traces/trace-details?stream=default&trace_id={'a' * 32}"
        "&from=1&to=2&org_identifier=default"
    )


def test_a_log_line_is_json_with_the_trace_and_without_personal_data() -> None:
    stream = io.StringIO()
    logs.configure("order-api", stream=stream)
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("step") as span:
        logging.getLogger("test").warning("no answer for %s", "ada@example.com", extra={"order_id": "O-1"})

    line = json.loads(stream.getvalue())
    assert line["message"] == "no answer for [redacted]"
    assert (line["level"], line["service"], line["order_id"]) == ("warning", "order-api", "O-1")
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_a_log_call_whose_arguments_do_not_fit_is_reported_and_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("order-api", stream=io.StringIO())
    logs.send_to(LoggerProvider(shutdown_on_exit=False))

    logging.getLogger("test").warning("one %s", "and", "too many")

    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("cumulative", False), ("delta", False), ("lowmemory", True), ("LOWMEMORY", True)],
)
def test_counters_of_low_memory_are_those_of_the_sdk(value: str, expected: bool) -> None:
    assert needs_the_sdk({"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": value}) is expected


@pytest.mark.parametrize(
    ("environ", "fields"),
    [
        ({}, {"traceparent", "tracestate"}),
        ({"OTEL_PROPAGATORS": "tracecontext,baggage"}, {"traceparent", "tracestate", "baggage"}),
        ({"OTEL_PROPAGATORS": "none"}, set()),
    ],
)
def test_baggage_is_passed_on_when_it_is_asked_for(environ: dict[str, str], fields: set[str]) -> None:
    assert propagator(environ).fields == fields


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://own"}, "none"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://own"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://own", "OTEL_METRICS_EXPORTER": "none"}, "none"),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, "none"),
    ],
)
def test_a_signal_goes_nowhere_where_nobody_has_said_where_to(environ: dict[str, str], expected: str) -> None:
    assert exporter_name("metrics", _settings(), environ) == expected
