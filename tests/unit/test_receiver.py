"""The receiver over its socket: what it takes, whom it lets in, and what it gives back."""

import gzip
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace as trace_api
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from shared.tools.traces.model import span_from_json
from tests.browser.embedded_receiver import (
    AUTH,
    INGEST,
    PROTOBUF,
    SECOND,
    SETTINGS,
    TOKEN,
    hex_id,
    provider,
    running,
    spans_of,
    wait_for,
)


@pytest.fixture
def url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, auth=AUTH) as client:
        yield client


def post(client: httpx.Client, request: ExportTraceServiceRequest, **headers: str) -> httpx.Response:
    return client.post(INGEST, content=request.SerializeToString(), headers=PROTOBUF | headers)


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_what_the_real_exporter_sends_is_read_back_as_it_was(
    url: str, client: httpx.Client, compression: Compression
) -> None:
    with provider(url, "order-api", compression) as sdk:
        tracer = sdk.get_tracer("demo")
        with tracer.start_as_current_span("POST /orders", kind=trace_api.SpanKind.SERVER) as root:
            root.set_attribute("order.id", "o-1")
            root.set_attribute("order.status", "success")
            with tracer.start_as_current_span("send orders:inventory.check", kind=trace_api.SpanKind.PRODUCER) as sent:
                sent.add_link(root.get_span_context(), {"link.reason": "reply"})
                sent.set_status(trace_api.StatusCode.ERROR, "returned")

    trace_id = trace_api.format_trace_id(root.get_span_context().trace_id)
    answer = client.get(f"/api/default/traces/{trace_id}").json()
    [server, producer] = [span_from_json(span) for span in answer["spans"]]
    assert (server.name, server.kind, server.service, server.scope) == ("POST /orders", "SERVER", "order-api", "demo")
    assert server.attributes == {"order.id": "o-1", "order.status": "success"}
    assert (producer.parent_span_id, producer.status, producer.status_message) == (server.span_id, "ERROR", "returned")
    assert [(link.span_id, link.attributes) for link in producer.links] == [(server.span_id, {"link.reason": "reply"})]
    [listed] = client.get("/api/default/traces").json()["traces"]
    assert listed["root"] == "POST /orders"
    assert (listed["trace_id"], listed["span_count"], listed["errors"]) == (trace_id, 2, 1)
    assert (listed["order_id"], listed["order_status"], listed["services"]) == ("o-1", "success", ["order-api"])


def test_an_accepted_export_is_answered_in_protobuf(client: httpx.Client) -> None:
    answer = post(client, spans_of(1))

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")


def test_a_span_without_valid_ids_is_rejected_and_the_rest_is_kept(client: httpx.Client) -> None:
    request = spans_of(1, 2)
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"

    answer = post(client, request)

    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    assert len(client.get(f"/api/default/traces/{hex_id(1)}").json()["spans"]) == 1


@pytest.mark.parametrize(
    "auth", [None, ("root@example.com", "wrong"), ("other", SETTINGS.password), ("", ""), ("ü", "ü")]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", INGEST), ("POST", "/api/default/v1/logs"), ("POST", "/api/default/v1/metrics"), ("GET", "/api/x/traces")],
)
def test_nobody_writes_or_reads_the_api_without_the_password(
    url: str, method: str, path: str, auth: tuple[str, str] | None
) -> None:
    answer = httpx.request(method, url + path, auth=auth, headers=PROTOBUF)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_of_another_scheme_is_refused(url: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    assert httpx.get(f"{url}/api/default/traces", headers=headers).status_code == 401


def test_health_and_the_page_on_loopback_need_no_login(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok", "receiver": "traced-orders"}
    assert httpx.get(url).status_code == 200


def test_the_page_answers_no_foreign_host_name(url: str) -> None:
    assert httpx.get(url, headers={"host": "rebound.example"}).status_code == 421


def test_beyond_loopback_the_page_needs_the_login() -> None:
    with running(replace(SETTINGS, host="0.0.0.0")) as url:  # noqa: S104 - only the rule is under test
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=AUTH, headers={"host": "traces.example"}).status_code == 200


@pytest.mark.parametrize("content_type", ["application/xml", "text/plain; charset=utf-8", ""])
def test_any_other_content_type_is_refused(client: httpx.Client, content_type: str) -> None:
    answer = client.post(INGEST, content=b"", headers={"content-type": content_type})

    assert answer.status_code == 415


@pytest.mark.parametrize("path", [INGEST, "/api/default/v1/logs", "/api/default/v1/metrics"])
def test_a_malformed_message_is_a_bad_request(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=b"\xff\xff not protobuf", headers=PROTOBUF)

    assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")


def test_gzip_is_accepted_in_one_member_or_more(client: httpx.Client) -> None:
    encoded = spans_of(1, 2).SerializeToString()
    halves = gzip.compress(encoded[:50]) + gzip.compress(encoded[50:])

    for body in (gzip.compress(encoded), halves):
        answer = client.post(INGEST, content=body, headers=PROTOBUF | {"content-encoding": "gzip"})

        assert answer.status_code == 200
    assert len(client.get(f"/api/default/traces/{hex_id(1)}").json()["spans"]) == 2


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        pytest.param(b"not gzip", "gzip", 400, id="not gzip"),
        pytest.param(gzip.compress(b"x" * 500)[:-9], "gzip", 400, id="cut short"),
        pytest.param(gzip.compress(bytes(50_000_000)), "gzip", 413, id="a bomb"),
        pytest.param(gzip.compress(bytes(60_000)) * 2, "gzip", 413, id="a bomb in two members"),
        pytest.param(bytes(100_001), "identity", 413, id="too large"),
        pytest.param(b"", "br", 415, id="another encoding"),
    ],
)
def test_a_body_that_cannot_be_unpacked_within_bounds_is_refused(
    client: httpx.Client, body: bytes, encoding: str, status: int
) -> None:
    answer = client.post(INGEST, content=body, headers=PROTOBUF | {"content-encoding": encoding})

    assert answer.status_code == status
    assert post(client, spans_of(1)).status_code == 200


def test_traces_are_listed_newest_first_and_found_by_order_and_time(client: httpx.Client) -> None:
    for number, order_id in ((2, "b"), (3, "a"), (1, "a")):
        post(client, spans_of(number, order_id=order_id))

    def listed(**query: Any) -> list[str]:
        answer = client.get("/api/default/traces", params=query)
        return [trace["trace_id"] for trace in answer.json()["traces"]]

    assert listed() == [hex_id(3), hex_id(2), hex_id(1)]
    assert listed(limit=1) == [hex_id(3)]
    assert listed(order_id="a") == [hex_id(3), hex_id(1)]
    assert listed(since_ns=2 * SECOND) == [hex_id(3), hex_id(2)]
    assert listed(order_id="unknown") == []


@pytest.mark.parametrize("query", ["limit=-1", "limit=many", "limit=1001", "since_ns=1.5", f"since_ns={'9' * 5000}"])
def test_a_query_that_makes_no_sense_is_refused(client: httpx.Client, query: str) -> None:
    assert client.get(f"/api/default/traces?{query}").status_code == 422


@pytest.mark.parametrize("trace_id", [hex_id(404), "no-id", "'%3Cscript%3E"])
def test_an_unknown_trace_is_not_found(client: httpx.Client, trace_id: str) -> None:
    answer = client.get(f"/api/default/traces/{trace_id}")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert client.get(f"/traces/{trace_id}").status_code == 404


def test_a_trace_comes_with_the_spans_of_others_that_link_into_it(client: httpx.Client) -> None:
    post(client, spans_of(1, 2))
    post(client, spans_of(2))
    post(client, spans_of(3, links_to=(1, 2, 3)))

    answer = client.get(f"/api/default/traces/{hex_id(1)}").json()

    assert [span["trace_id"] for span in answer["spans"]] == [hex_id(1)] * 2
    assert [span["trace_id"] for span in answer["linked"]] == [hex_id(3)]


def test_logs_are_found_by_their_trace(client: httpx.Client) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for number, text in ((1, "second"), (1, "first"), (2, "other")):
        record = records.add(trace_id=number.to_bytes(16, "big"), severity_text="INFO")
        record.time_unix_nano = {"first": 1, "second": 2, "other": 3}[text]
        record.body.string_value = text

    answer = client.post("/api/default/v1/logs", content=request.SerializeToString(), headers=PROTOBUF)

    assert answer.status_code == 200
    logs = client.get(f"/api/default/traces/{hex_id(1)}/logs").json()["logs"]
    assert [(entry["severity"], entry["body"]) for entry in logs] == [("INFO", "first"), ("INFO", "second")]


def test_the_latest_point_of_a_metric_is_kept(client: httpx.Client) -> None:
    for value in (1, 7):
        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="orders.late", unit="1")
        metric.sum.data_points.add(as_int=value, time_unix_nano=value)
        answer = client.post("/api/default/v1/metrics", content=request.SerializeToString(), headers=PROTOBUF)
        assert answer.status_code == 200

    [point] = client.get("/api/default/metrics").json()["metrics"]

    assert (point["name"], point["value"]) == ("orders.late", 7)


def test_the_process_tells_its_port_and_ends_well_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "shared.tools.receiver", "--port-file", str(port_file)]
    process = subprocess.Popen([*command, "--user", AUTH[0], "--password", AUTH[1]], stderr=subprocess.DEVNULL)

    try:
        port = wait_for(lambda: port_file.read_text() if port_file.exists() else None, seconds=30)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=AUTH) as client:
            assert client.get("/healthz").json() == {"status": "ok", "receiver": "traced-orders"}
            assert post(client, spans_of(1)).status_code == 200
            process.terminate()
            assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
