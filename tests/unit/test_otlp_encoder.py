"""The direct encoder against the official one: equal messages for whatever a span can hold."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as official
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from shared.telemetry.otlp_encoder import encode_spans

scalars = st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
values: st.SearchStrategy[Any] = scalars | st.lists(scalars, max_size=4).map(tuple) | st.binary(max_size=20)
attributes = st.dictionaries(st.text(min_size=1, max_size=40), values, max_size=10)
times = st.integers(0, 2**64 - 1)
states = st.sampled_from([TraceState(), TraceState([("a", "1"), ("b", "2")])])
contexts = st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.sampled_from([TraceFlags(0), TraceFlags(1)]),
    trace_state=states,
)
statuses = (
    st.just(Status(StatusCode.UNSET))
    | st.just(Status(StatusCode.OK))
    | st.text().map(lambda text: Status(StatusCode.ERROR, text))
)
spans = st.builds(
    ReadableSpan,
    name=st.text(),
    context=contexts,
    parent=st.none() | contexts,
    resource=st.sampled_from([Resource({"service.name": "a"}), Resource({"service.name": "b", "n": 1}, "https://s/1")]),
    attributes=attributes,
    events=st.lists(st.builds(Event, name=st.text(), attributes=attributes, timestamp=times), max_size=3),
    links=st.lists(st.builds(Link, context=contexts, attributes=attributes), max_size=3),
    kind=st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
    instrumentation_scope=st.none()
    | st.sampled_from([InstrumentationScope("x", "1"), InstrumentationScope("y", None, "https://s/2", {"k": True})]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(spans, max_size=6))
def test_the_direct_encoder_writes_what_the_official_one_writes(batch: list[ReadableSpan]) -> None:
    assert ExportTraceServiceRequest.FromString(encode_spans(batch)) == official(batch)


def test_long_values_and_many_attributes_keep_their_lengths() -> None:
    context = SpanContext(1, 2, is_remote=False)
    long = {f"key-{number}" * 50: "x" * number for number in (0, 127, 128, 2047, 2048, 16_383, 16_384, 70_000)}
    span = ReadableSpan("n" * 5000, context, attributes=long, resource=Resource({}))

    assert ExportTraceServiceRequest.FromString(encode_spans([span])) == official([span])


def test_an_attribute_that_cannot_be_encoded_costs_only_itself() -> None:
    context = SpanContext(1, 2, is_remote=False)
    attributes: dict[str, Any] = {"good": 1, "too big": 2**70, "no": object(), "half": "\ud800"}
    span = ReadableSpan("s", context, attributes=attributes, resource=Resource({}))

    (found,) = ExportTraceServiceRequest.FromString(encode_spans([span])).resource_spans[0].scope_spans[0].spans

    assert [each.key for each in found.attributes] == ["good"]
