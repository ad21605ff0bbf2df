"""Redaction: what reaches an exporter holds no personal data."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from shared.telemetry.ended_spans import RewritingProcessor, with_error_type
from shared.telemetry.redaction import MASK, RedactionProcessor, redact_text


def _exported(fill: object) -> str:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionProcessor(SimpleSpanProcessor(exporter)))
    with provider.get_tracer("test").start_as_current_span("step") as span:
        fill(span)  # type: ignore[operator]
    (found,) = exporter.get_finished_spans()
    provider.shutdown()
    return str(found.to_json())


def test_addresses_in_attributes_events_and_status_are_masked() -> None:
    def fill(span: object) -> None:
        span.set_attribute("url.query", "to=ada%40example.com&n=1")  # type: ignore[attr-defined]
        span.set_attribute("note", "ask ada.l+x@example.co.uk please")  # type: ignore[attr-defined]
        span.set_attribute("list", ["a@b.example", "fine"])  # type: ignore[attr-defined]
        span.record_exception(ValueError("bad: ada@example.com"))  # type: ignore[attr-defined]
        span.set_status(Status(StatusCode.ERROR, "for ada@example.com"))  # type: ignore[attr-defined]

    exported = _exported(fill)

    assert "ada" not in exported
    assert "a@b" not in exported
    assert exported.count(MASK) >= 5
    assert "fine" in exported


def test_attributes_that_are_personal_by_name_are_masked_whatever_they_hold() -> None:
    exported = _exported(lambda span: span.set_attributes({"customer.id": "c-17", "client.address": "203.0.113.9"}))

    assert "c-17" not in exported
    assert "203.0.113.9" not in exported


def test_a_span_without_personal_data_is_handed_on_as_it_is() -> None:
    class Recorder(SimpleSpanProcessor):
        def on_end(self, span: object) -> None:
            seen.append(span)

    seen: list[object] = []
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionProcessor(Recorder(InMemorySpanExporter())))

    span = provider.get_tracer("test").start_span("step", attributes={"order.id": "O-1", "at": "12 @ 3"})
    span.end()

    (handed_on,) = seen
    assert handed_on.attributes == {"order.id": "O-1", "at": "12 @ 3"}  # type: ignore[attr-defined]


def test_text_without_an_address_stays() -> None:
    assert redact_text("3 @ 5 and user@ and @host") == "3 @ 5 and user@ and @host"


def test_a_failed_span_says_its_error_type_and_a_good_one_stays_as_it_is() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RewritingProcessor(with_error_type, SimpleSpanProcessor(exporter)))
    tracer = provider.get_tracer("test")

    with pytest.raises(TimeoutError), tracer.start_as_current_span("failed"):
        raise TimeoutError
    tracer.start_span("own", attributes={"error.type": "unroutable"}).end()
    tracer.start_span("good").end()

    found = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    assert found == {"failed": {"error.type": "TimeoutError"}, "own": {"error.type": "unroutable"}, "good": {}}
    provider.shutdown()
