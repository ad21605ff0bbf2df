"""Any service's telemetry: JSON beside protobuf, at the root beside OpenObserve's path, and one bad string costs one span."""

import json
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from shared.tools.receiver.asgi import create_app
from shared.tools.traces.model import Span
from shared.tools.traces.otlp import from_otlp
from shared.tools.traces.otlp_file import from_otlp_json, to_otlp_json
from tests.browser.embedded_receiver import AUTH, INGEST, PROTOBUF, SETTINGS, hex_id, serving, spans_of

JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with serving(create_app(SETTINGS)) as url, httpx.Client(base_url=url, auth=AUTH, trust_env=False) as client:
        yield client


def _json_of(number: int) -> str:
    return to_otlp_json(from_otlp(spans_of(number, 3, order_id="ORDER1", links_to=(7,))))


def _stored(client: httpx.Client, number: int) -> int:
    found = client.get(f"/api/default/traces/{hex_id(number)}")
    return len(found.json()["spans"]) if found.is_success else 0


@pytest.mark.parametrize("path", [INGEST, "/v1/traces"])
def test_json_and_protobuf_are_taken_at_the_root_and_at_openobserves_path(client: httpx.Client, path: str) -> None:
    of_json = client.post(path, content=_json_of(1), headers=JSON)
    of_protobuf = client.post(
        path,
        content=spans_of(2, 3).SerializeToString(),
        headers={"content-type": "application/x-protobuf; messageType=x"},
    )

    assert (of_json.status_code, of_json.json(), of_json.headers["content-type"]) == (200, {}, "application/json")
    assert of_protobuf.status_code == 200
    assert (_stored(client, 1), _stored(client, 2)) == (3, 3)


def test_one_string_that_is_no_utf8_costs_one_span(client: httpx.Client) -> None:
    request = spans_of(3, 3)
    request.resource_spans[0].scope_spans[0].spans[1].name = "cut off XX"
    broken = request.SerializeToString().replace(b"cut off XX", b"cut off \xff\xfe")

    answer = client.post("/v1/traces", content=broken, headers=PROTOBUF)

    assert answer.status_code == 200
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    assert _stored(client, 3) == 2


def test_one_span_that_is_no_span_costs_one_span_of_json_too(client: httpx.Client) -> None:
    value = json.loads(_json_of(4))
    value["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["startTimeUnixNano"] = "soon"

    answer = client.post("/v1/traces", json=value)

    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert _stored(client, 4) == 2


@pytest.mark.parametrize("body", ["{", "[]", '"text"', '{"resourceSpans": 5}', "{}{}"])
def test_what_is_no_otlp_at_all_is_a_bad_request(client: httpx.Client, body: str) -> None:
    assert client.post("/v1/traces", content=body, headers=JSON).status_code == 400


def test_an_exported_file_reads_back_equal() -> None:
    spans: list[Span] = from_otlp(_with_every_kind_of_value())

    assert from_otlp_json(to_otlp_json(spans).encode()) == spans
    assert from_otlp_json((to_otlp_json(spans[:1]) + "\n" + to_otlp_json(spans[1:])).encode()) == spans


def _with_every_kind_of_value() -> ExportTraceServiceRequest:
    request = spans_of(5, 2, order_id="ORDER1", links_to=(8,))
    request.resource_spans[0].resource.attributes.add(key="service.name").value.string_value = "shop"
    first = request.resource_spans[0].scope_spans[0].spans[0]
    first.kind, first.status.code, first.status.message = 2, 2, "went wrong"
    first.attributes.add(key="count").value.int_value = 2**53
    first.attributes.add(key="share").value.double_value = 0.25
    first.attributes.add(key="is").value.bool_value = True
    first.attributes.add(key="many").value.array_value.values.add().string_value = "one"
    first.events.add(name="exception", time_unix_nano=5)
    return request


def test_a_trace_is_exported_with_those_that_link_to_it_and_opened_again(client: httpx.Client) -> None:
    client.post("/v1/traces", content=spans_of(1, 3).SerializeToString(), headers=PROTOBUF)
    client.post("/v1/traces", content=spans_of(2, 1, links_to=(1,)).SerializeToString(), headers=PROTOBUF)

    exported = client.get(f"/traces/{hex_id(1)}/export")
    with serving(create_app(SETTINGS)) as other:
        own = {"sec-fetch-site": "same-origin"}
        opened = httpx.post(f"{other}/open", content=exported.content, headers=own)
        foreign = httpx.post(f"{other}/open", content=exported.content, headers={"sec-fetch-site": "cross-site"})
        nonsense = httpx.post(f"{other}/open", content=b"nonsense", headers=own)
        shown = httpx.get(f"{other}{opened.json()['trace']}")

    assert "attachment" in exported.headers["content-disposition"]
    assert opened.json() == {"trace": f"/traces/{hex_id(1)}"}
    assert "Linked from other traces" in shown.text
    assert (foreign.status_code, nonsense.status_code) == (403, 400)


def test_the_list_shows_traces_of_any_service_and_the_map_its_calls(client: httpx.Client) -> None:
    client.post("/v1/traces", json=_shop())

    listed, drawn = client.get("/").text, client.get("/map").text

    assert "GET /basket" in listed
    assert all(name in drawn for name in ("shop", "stock", "HTTP stock", "database shopdb"))


def _shop() -> dict[str, object]:
    def span(number: int, kind: int, name: str, parent: int = 0, **attributes: str) -> dict[str, object]:
        return {
            "traceId": hex_id(9),
            "spanId": f"{number:016x}",
            "parentSpanId": f"{parent:016x}" if parent else "",
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(10**18 + number),
            "endTimeUnixNano": str(10**18 + 1000),
            "attributes": [
                {"key": key.replace("_", "."), "value": {"stringValue": v}} for key, v in attributes.items()
            ],
        }

    def of(service: str, *spans: dict[str, object]) -> dict[str, object]:
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        return {"resource": resource, "scopeSpans": [{"spans": list(spans)}]}

    calls = span(2, 3, "GET", 1)
    asks = span(3, 3, "SELECT", 1, db_system_name="postgresql", db_namespace="shopdb")
    return {
        "resourceSpans": [
            of("shop", span(1, 2, "GET /basket"), calls, asks),
            of("stock", span(4, 2, "GET /stock", 2)),
        ]
    }


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("service=shop", True),
        ("service=nobody", False),
        ("error=no", True),
        ("error=yes", False),
        ("attribute=db.namespace%3Dshopdb", True),
        ("attribute=db.namespace%3Dother", False),
        ("attribute=db.namespace", True),
        ("min_ms=0.0005", True),
        ("min_ms=5", False),
        ("reason=batch_member", False),
        ("since=2001-01-01T00:00", True),
        ("until=2001-01-01T00:00", False),
    ],
)
def test_a_list_is_narrowed_down_by_its_address(client: httpx.Client, query: str, is_found: bool) -> None:
    client.post("/v1/traces", json=_shop())

    found = client.get(f"/?{query}")

    assert ("GET /basket" in found.text) is is_found
    assert query.partition("=")[0] in found.text


@pytest.mark.parametrize("query", ["min_ms=much", "since=yesterday", "until=99999999-01-01"])
def test_what_makes_no_condition_is_told_as_a_page(client: httpx.Client, query: str) -> None:
    found = client.get(f"/?{query}", headers={"accept": "text/html"})

    assert found.status_code == 422
    assert "<h1>" in found.text
