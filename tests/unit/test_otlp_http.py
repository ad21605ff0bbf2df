"""One attempt over a real connection: what goes over the wire, redirects, partial success, and causes without secrets."""

import gzip
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.telemetry.exporters import sender_of
from shared.telemetry.otlp_encoder import encode_spans
from shared.telemetry.otlp_http import OtlpHttp
from shared.telemetry.otlp_response import Attempt, Fate
from shared.telemetry.target import Target, target_of
from tests.faults.scripted_backend import Behaviour, ScriptedBackend

SECRET = "Basic c2VjcmV0LXNlY3JldA=="


def _encoded_span() -> bytes:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("test").start_span("step").end()
    return encode_spans(exporter.get_finished_spans())


BODY = gzip.compress(_encoded_span())


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with ScriptedBackend() as scripted:
        yield scripted


def _send(target: Target, response_type: Any = ExportTraceServiceResponse, field: str = "rejected_spans") -> Attempt:
    http = OtlpHttp(target, response_type, field)
    try:
        return http.send(BODY)
    finally:
        http.close()


@pytest.mark.parametrize("is_compressed", [True, False])
def test_a_batch_arrives_compressed_or_not(backend: ScriptedBackend, is_compressed: bool) -> None:
    target = Target(backend.endpoint, {"authorization": SECRET}, is_compressed=is_compressed)

    assert _send(target) == Attempt(Fate.DELIVERED, 200)
    assert [span.name for span in backend.spans] == ["step"]
    assert backend.received[0].get("Content-Encoding") == ("gzip" if is_compressed else None)
    assert backend.received[0]["authorization"] == SECRET


@pytest.mark.parametrize(
    ("response_type", "partial", "field"),
    [
        (ExportTraceServiceResponse, ExportTracePartialSuccess, "rejected_spans"),
        (ExportMetricsServiceResponse, ExportMetricsPartialSuccess, "rejected_data_points"),
        (ExportLogsServiceResponse, ExportLogsPartialSuccess, "rejected_log_records"),
    ],
)
def test_what_is_rejected_of_a_batch_is_read_from_the_response(
    backend: ScriptedBackend, response_type: Any, partial: Any, field: str
) -> None:
    response = response_type(partial_success=partial(**{field: 7}, error_message="too\nold"))
    backend.behaviour = Behaviour(body=response.SerializeToString())

    assert _send(Target(backend.endpoint), response_type, field) == Attempt(Fate.DELIVERED, 200, "too old", rejected=7)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>welcome</html>",
        ExportTraceServiceResponse().SerializeToString(),
        ExportTraceServiceResponse(
            partial_success=ExportTracePartialSuccess(error_message="a warning")
        ).SerializeToString(),
        ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=-7)).SerializeToString(),
    ],
)
def test_a_success_that_rejects_nothing_is_a_success_whatever_it_says(backend: ScriptedBackend, body: bytes) -> None:
    backend.behaviour = Behaviour(body=body)

    assert _send(Target(backend.endpoint)) == Attempt(Fate.DELIVERED, 200)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_host_is_followed_with_method_body_and_headers(
    backend: ScriptedBackend, status: int
) -> None:
    with ScriptedBackend() as moved_to:
        backend.behaviour = Behaviour(status, headers={"Location": moved_to.endpoint})

        attempt = _send(Target(backend.endpoint, {"authorization": SECRET}))

        assert attempt.fate is Fate.DELIVERED
        assert [span.name for span in moved_to.spans] == ["step"]
        assert moved_to.received[0]["authorization"] == SECRET


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_or_of_another_kind_is_a_failure_and_takes_no_secret_there(
    backend: ScriptedBackend, status: int
) -> None:
    with ScriptedBackend() as elsewhere:
        location = elsewhere.endpoint.replace("127.0.0.1", "localhost")
        backend.behaviour = Behaviour(status, headers={"Location": location})

        attempt = _send(Target(backend.endpoint, {"authorization": SECRET}))

        assert (attempt.fate, attempt.status) == (Fate.WAITS, status)
        assert elsewhere.requests == 0


def test_a_redirect_that_goes_round_in_circles_ends(backend: ScriptedBackend) -> None:
    backend.behaviour = Behaviour(308, headers={"Location": backend.endpoint})

    assert _send(Target(backend.endpoint)).fate is Fate.WAITS
    assert backend.requests == 4


def test_the_cause_has_what_the_backend_says_but_not_what_we_said_to_it(backend: ScriptedBackend) -> None:
    told = f"no such user\x1b[31m: {SECRET} (c2VjcmV0LXNlY3JldA==) {'x' * 500}".encode()
    backend.behaviour = Behaviour(401, headers={"Content-Type": "text/plain"}, body=told)

    cause = _send(Target(backend.endpoint, {"Authorization": SECRET})).cause

    assert cause.startswith("401 Unauthorized: no such user [31m: [redacted] ([redacted]) xxx")
    assert len(cause) < 250


@pytest.mark.parametrize("suffix", ["", "?key=secret-secret"])
def test_a_backend_that_is_not_there_is_named_without_the_url(suffix: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        attempt = _send(Target(f"http://me:secret@127.0.0.1:{port}/v1/traces{suffix}"))

    assert attempt == Attempt(Fate.WAITS, None, "Connection refused")


def test_a_backend_that_hangs_is_given_the_timeout(backend: ScriptedBackend) -> None:
    backend.behaviour = Behaviour(hangs=True)

    assert _send(Target(backend.endpoint, timeout=0.2)) == Attempt(Fate.WAITS, None, "no response within 0.2 s")


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://backend/", "http://", "http://[::1", "http://no.such.host.invalid/"]
)
def test_an_address_that_makes_no_sense_is_a_cause_and_no_exception(url: str) -> None:
    attempt = _send(Target(url))

    assert attempt.fate is Fate.WAITS
    assert attempt.cause


def test_a_certificate_file_that_is_not_there_is_a_cause_and_no_exception() -> None:
    assert _send(Target("https://127.0.0.1:1/", certificate="/no/such/file.pem")).fate is Fate.WAITS


def test_a_connection_that_was_closed_while_it_was_idle_is_made_anew_at_once(backend: ScriptedBackend) -> None:
    http = OtlpHttp(Target(backend.endpoint), ExportTraceServiceResponse, "rejected_spans")
    assert http.send(BODY).fate is Fate.DELIVERED
    backend.go_away()
    backend.come_back()

    assert http.send(BODY).fate is Fate.DELIVERED
    http.close()


def test_proxies_and_certificates_of_the_environment_do_not_reach_a_backend_on_loopback(
    backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")
    for name, value in {**environ, "REQUESTS_CA_BUNDLE": "/no/such/file.pem"}.items():
        monkeypatch.setenv(name, value)
    environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = backend.endpoint

    assert _send(target_of("traces", environ)).fate is Fate.DELIVERED


def test_a_proxy_is_used_for_a_backend_elsewhere(backend: ScriptedBackend) -> None:
    proxy = backend.endpoint.removesuffix("/v1/traces")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318", "HTTP_PROXY": proxy}

    assert _send(target_of("traces", environ)).fate is Fate.DELIVERED
    assert backend.paths == ["http://collector.example:4318/v1/traces"]


def test_a_proxy_with_a_password_that_is_away_is_named_without_it() -> None:
    target = Target("http://collector.example/", proxies={"http": "http://me:secret@127.0.0.1:1"})

    assert "secret" not in _send(target).cause


def test_a_web_page_is_no_success(backend: ScriptedBackend) -> None:
    backend.behaviour = Behaviour(body=b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})

    attempt = _send(Target(backend.endpoint))

    assert attempt.fate is Fate.WAITS
    assert attempt.cause == "200 OK with a web page, which no OTLP endpoint answers with"


@pytest.mark.parametrize("status", [200, 500])
def test_of_a_response_without_end_64_kib_are_read(backend: ScriptedBackend, status: int) -> None:
    backend.behaviour = Behaviour(status, body=b"x" * 10_000_000, headers={"Content-Type": "text/plain"})
    http = OtlpHttp(Target(backend.endpoint), ExportTraceServiceResponse, "rejected_spans")

    attempts = [http.send(BODY) for _ in range(3)]
    http.close()

    assert {attempt.status for attempt in attempts} == {status}
    assert all(len(attempt.cause) < 300 for attempt in attempts)


def test_a_certificate_file_that_is_not_there_is_named_as_the_cause() -> None:
    attempt = _send(Target("https://127.0.0.1:1/v1/traces", certificate="/nowhere/ca.pem"))

    assert attempt.fate is Fate.WAITS
    assert "/nowhere/ca.pem" in attempt.cause


@pytest.mark.parametrize(("signal", "noun"), [("traces", "spans"), ("metrics", "data points"), ("logs", "log records")])
@pytest.mark.parametrize("status", [301, 308, 401, 503])
def test_each_signal_says_once_where_it_fails_with_which_status_and_why(
    signal: str, noun: str, status: int, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.behaviour = Behaviour(status, headers={"Location": "http://elsewhere/v1"} if status < 400 else {})
    sender = sender_of(signal, Target(backend.endpoint), 1e6, 512)

    for _ in range(3):
        sender.put(b"", 2)
    sender.end(5.0)

    (failed, stopped) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (
        f"the telemetry backend at {backend.endpoint} does not take {noun}: {status} {HTTPStatus(status).phrase}"
        in failed
    )
    assert ("a redirect that is not followed" in failed) is (status < 400)
    assert f"has not taken the last 6 {noun}: they are lost" in stopped
    assert sender.account.by_reason()["stopped"] == 6
