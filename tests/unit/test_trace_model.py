import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.tools.traces.model import (
    Event,
    Link,
    Span,
    duration_ns,
    has_errors,
    root,
    services,
    span_from_json,
    span_to_json,
    tree,
)
from shared.tools.traces.otlp import from_otlp

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

texts = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.one_of(texts, st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
attributes = st.dictionaries(texts, st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=4)
times = st.integers(0, 2**64 - 1)
trace_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
span_ids = st.binary(min_size=8, max_size=8).map(bytes.hex)
spans = st.builds(
    Span,
    trace_id=trace_ids,
    span_id=span_ids,
    parent_span_id=st.none() | span_ids,
    name=texts,
    kind=st.sampled_from(["SERVER", "PRODUCER", "CONSUMER", "INTERNAL", "CLIENT"]),
    service=texts,
    start_ns=times,
    end_ns=times,
    status=st.sampled_from(["UNSET", "OK", "ERROR"]),
    status_message=texts,
    attributes=attributes,
    links=st.lists(st.builds(Link, trace_ids, span_ids, attributes), max_size=2).map(tuple),
    events=st.lists(st.builds(Event, texts, times, attributes), max_size=2).map(tuple),
    resource=attributes,
    scope=texts,
)


def a_span(span_id: str, parent: str | None = None, *, start: int = 0, end: int = 10) -> Span:
    return Span(
        TRACE_ID,
        span_id,
        parent,
        f"step {span_id}",
        "INTERNAL",
        "order-api",
        start,
        end,
        "UNSET",
        "",
        {},
        (),
        (),
        {},
        "",
    )


def shape(spans: Sequence[Span]) -> list[tuple[str, int, bool]]:
    return [(node.span.span_id, node.depth, node.orphan) for node in tree(spans)]


@given(spans)
def test_a_span_survives_the_way_through_json(span: Span) -> None:
    text = json.dumps(span_to_json(span), allow_nan=False)

    assert span_from_json(json.loads(text)) == span


def test_an_export_request_becomes_spans_with_their_service_scope_links_and_events() -> None:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    name = of_resource.resource.attributes.add(key="service.name")
    name.value.string_value = "inventory-worker"
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = "aio-pika"
    sent = of_scope.spans.add(
        trace_id=bytes.fromhex(TRACE_ID),
        span_id=b"\x03" * 8,
        parent_span_id=b"\x02" * 8,
        name="process orders:inventory.check",
        kind=otlp.Span.SPAN_KIND_CONSUMER,
        start_time_unix_nano=100,
        end_time_unix_nano=250,
    )
    sent.status.code = otlp.Status.STATUS_CODE_ERROR
    sent.status.message = "stock is locked"
    sent.attributes.add(key="delivery.attempt").value.int_value = 2
    sent.attributes.add(key="skus").value.array_value.values.add().string_value = "widget"
    sent.links.add(trace_id=b"\xaa" * 16, span_id=b"\x02" * 8).attributes.add(
        key="link.reason"
    ).value.string_value = "creation_context"
    sent.events.add(name="exception", time_unix_nano=200)

    [span] = from_otlp(request)

    assert span == Span(
        trace_id=TRACE_ID,
        span_id="03" * 8,
        parent_span_id="02" * 8,
        name="process orders:inventory.check",
        kind="CONSUMER",
        service="inventory-worker",
        start_ns=100,
        end_ns=250,
        status="ERROR",
        status_message="stock is locked",
        attributes={"delivery.attempt": 2, "skus": ["widget"]},
        links=(Link("aa" * 16, "02" * 8, {"link.reason": "creation_context"}),),
        events=(Event("exception", 200, {}),),
        resource={"service.name": "inventory-worker"},
        scope="aio-pika",
    )


def test_values_that_json_or_the_model_cannot_hold_become_text() -> None:
    request = ExportTraceServiceRequest()
    sent = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\x01" * 16, span_id=b"\x01" * 8)
    sent.attributes.add(key="nan").value.double_value = math.nan
    sent.attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
    sent.attributes.add(key="map").value.kvlist_value.values.add(key="a").value.bool_value = True
    sent.attributes.add(key="nothing")
    sent.MergeFromString(b"\x30\x63")  # field 6, the kind, with a number that OTLP does not define

    [span] = from_otlp(request)

    assert span.attributes == {"nan": "nan", "bytes": "AP8=", "map": '{"a": true}', "nothing": ""}
    assert span.kind == "UNSPECIFIED"
    assert span.service == "unknown_service"
    json.dumps(span_to_json(span), allow_nan=False)


def test_the_tree_goes_depth_first_and_orders_siblings_by_start() -> None:
    spans = [a_span("late", "root", start=5), a_span("leaf", "early"), a_span("early", "root", start=1), a_span("root")]

    nodes = tree(spans)

    assert shape(spans) == [("root", 0, False), ("early", 1, False), ("leaf", 2, False), ("late", 1, False)]
    assert [node.last_child for node in nodes] == [True, False, True, True]


def test_a_span_whose_parent_is_unknown_is_a_root_that_can_be_told_apart() -> None:
    spans = [a_span("root"), a_span("stray", "gone", start=1), a_span("child", "stray", start=2)]

    assert shape(spans) == [("root", 0, False), ("stray", 0, True), ("child", 1, False)]


def test_parents_in_a_circle_end_and_lose_no_span() -> None:
    circle = [a_span("a", "c", start=1), a_span("b", "a", start=2), a_span("c", "b", start=3)]
    own_parent = a_span("self", "self", start=4)

    assert shape([*circle, own_parent]) == [("a", 0, True), ("b", 1, False), ("c", 2, False), ("self", 0, True)]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 9), st.integers(0, 5)), max_size=12),
)
def test_every_span_is_in_the_tree_exactly_once_whatever_the_parents(parts: list[tuple[int, int | None, int]]) -> None:
    spans = [a_span(str(own), None if parent is None else str(parent), start=start) for own, parent, start in parts]

    listed = [id(node.span) for node in tree(spans)]

    assert sorted(listed) == sorted(id(span) for span in spans)


def test_a_chain_of_ten_thousand_spans_does_not_exhaust_the_stack() -> None:
    chain = [a_span(str(place), str(place - 1) if place else None) for place in range(10_000)]

    assert tree(chain)[-1].depth == 9_999


def test_the_derived_values_of_a_trace() -> None:
    first = a_span("1", "caller", start=100, end=130)
    second = replace(a_span("2", "1", start=110, end=190), service="inventory-worker", status="ERROR")
    backwards = a_span("3", "1", start=120, end=90)

    spans = [second, backwards, first]

    assert root(spans) is first
    assert duration_ns(spans) == 90
    assert services(spans) == ["order-api", "inventory-worker"]
    assert has_errors(spans)
    assert not has_errors([first])
    assert backwards.duration_ns == 0


def test_no_spans_have_no_root_and_last_no_time() -> None:
    assert root([]) is None
    assert duration_ns([]) == 0
    assert tree([]) == []


def test_a_span_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        a_span("1").name = "other"  # type: ignore[misc]
