"""Redaction: what reaches an exporter holds no personal data."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanContext, Status, StatusCode

from shared.telemetry.ended_spans import with_error_type
from shared.telemetry.otlp_encoder import SpanEncoder
from shared.telemetry.redaction import MASK, RedactingSpanExporter, Redaction, redact_text

REDACTION = Redaction(kept_in_queries={"order_id"})


def _direct(span: ReadableSpan) -> str:
    return str(ExportTraceServiceRequest.FromString(SpanEncoder(REDACTION).encode([span])))


def _by_any_exporter(span: ReadableSpan) -> str:
    exporter = InMemorySpanExporter()
    RedactingSpanExporter(exporter, REDACTION).export([span])
    (found,) = exporter.get_finished_spans()
    return str(found.to_json())


@pytest.fixture(params=[_direct, _by_any_exporter])
def exported(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Give what an exporter sends of a span that was filled: by both ways that there are."""

    def export(fill: Callable[[Span], None] = lambda _: None, name: str = "step", **arguments: Any) -> str:
        return str(request.param(_ended(fill, name, **arguments)))

    return export


def _ended(fill: Callable[[Span], None], name: str, **arguments: Any) -> ReadableSpan:
    provider = TracerProvider(shutdown_on_exit=False)
    span = provider.get_tracer("test").start_span(name, **arguments)
    fill(span)
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


def test_addresses_in_attributes_events_links_and_status_are_masked(exported: Callable[..., str]) -> None:
    def fill(span: Span) -> None:
        span.set_attribute("url.query", "to=adele%40example.com&n=1")
        span.set_attribute("note", "ask adele.l+x@example.co.uk please")
        span.set_attribute("list", ["a@b.example", "fine"])
        span.record_exception(ValueError("bad: adele@example.com"))
        span.add_event("adele@example.com has come", {"who": "adele@example.com"})
        span.add_link(SpanContext(1, 2, False), {"to": "adele@example.com"})
        span.set_status(Status(StatusCode.ERROR, "for adele@example.com"))

    found = exported(fill, "send adele@example.com")

    assert "adele" not in found
    assert "a@b" not in found
    assert found.count(MASK) >= 9
    assert "fine" in found


def test_attributes_that_are_personal_by_name_are_masked_whatever_they_hold(exported: Callable[..., str]) -> None:
    found = exported(lambda span: span.set_attributes({"customer.id": 4711, "client.address": "203.0.113.9"}))

    assert "4711" not in found
    assert "203.0.113.9" not in found


def test_names_and_patterns_of_an_application_are_masked_too() -> None:
    redaction = Redaction({"phone"}, [r"\b\d{4} \d{4} \d{4} \d{4}\b"])

    assert redaction.value("phone", "+49 30 1234") == MASK
    assert redaction.value("note", "card 4111 1111 1111 1111, ok") == f"card {MASK}, ok"
    assert redaction.value("parts", ("4111 1111 1111 1111", 7)) == (MASK, 7)


def test_what_was_once_masked_is_masked_again_and_what_was_clean_stays() -> None:
    encoder = SpanEncoder(REDACTION)
    span = _ended(lambda _: None, "step", attributes={"to": "adele@example.com", "order.id": "O-1", "at": "12 @ 3"})

    for _ in range(3):
        found = str(ExportTraceServiceRequest.FromString(encoder.encode([span])))
        assert "adele" not in found
        assert "O-1" in found
        assert "12 @ 3" in found


def test_text_without_an_address_stays() -> None:
    assert redact_text("3 @ 5 and user@ and @host") == "3 @ 5 and user@ and @host"


def test_of_a_query_only_the_order_id_stays(exported: Callable[..., str]) -> None:
    query = "order_id=O-1&customer=c-17&to=adele%40example.com&flag"

    assert f"order_id=O-1&customer={MASK}&to={MASK}&flag" in exported(attributes={"url.query": query})
    assert f"order_id={MASK}" in exported(attributes={"url.query": "order_id=adele%40example.com"})


def test_a_failed_span_says_its_error_type_and_a_good_one_stays_as_it_is() -> None:
    def fail(span: Span) -> None:
        span.record_exception(TimeoutError())
        span.set_status(Status(StatusCode.ERROR))

    failed = with_error_type(_ended(fail, "failed"))
    own = with_error_type(_ended(fail, "own", attributes={"error.type": "unroutable"}))
    good = _ended(lambda _: None, "good")

    assert dict(failed.attributes or {}) == {"error.type": "TimeoutError"}
    assert dict(own.attributes or {}) == {"error.type": "unroutable"}
    assert with_error_type(good) is good
    assert "TimeoutError" in _direct(_ended(fail, "failed"))
