"""The account of lost spans, kept beside the SDK's own batch processor while its exporter blocks, fails and recovers."""

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from requests import Response

from shared.telemetry.export import LostSpans, WatchedBatchSpanProcessor, watching_session

CAPACITY = 100
REFUSED = ExportTracePartialSuccess(rejected_spans=7, error_message="too old")


class Backend(SpanExporter):
    """An exporter whose backend can hang and can refuse."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.exporting = threading.Event()
        self.flowing = threading.Event()
        self.flowing.set()
        self.result = SpanExportResult.SUCCESS
        self.error: Exception | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exporting.set()
        assert self.flowing.wait(30)
        if self.error is not None:
            raise self.error
        if self.result is SpanExportResult.SUCCESS:
            self.taken += [span.name for span in spans]
        return self.result


class Traced:
    """A tracer provider with a small queue before a backend."""

    def __init__(self) -> None:
        self.backend = Backend()
        self.lost = LostSpans(CAPACITY)
        self.processor = WatchedBatchSpanProcessor(self.backend, self.lost, CAPACITY, 60_000, CAPACITY)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self._tracer = self.provider.get_tracer("test")

    def end_spans(self, count: int) -> None:
        for number in range(count):
            self._tracer.start_span(f"span {number}").end()

    def hang_with(self, count: int) -> None:
        """Have the backend hang on a batch of spans."""
        self.backend.flowing.clear()
        self.backend.exporting.clear()
        self.end_spans(count)
        threading.Thread(target=self.processor.force_flush, daemon=True).start()
        assert self.backend.exporting.wait(30)


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    try:
        yield traced
    finally:
        traced.backend.flowing.set()
        traced.provider.shutdown()


def test_nothing_is_lost_while_the_queue_has_room(traced: Traced) -> None:
    traced.hang_with(10)
    traced.end_spans(CAPACITY)
    traced.backend.flowing.set()
    traced.processor.force_flush()

    assert len(traced.backend.taken) == 10 + CAPACITY
    assert traced.lost.by_reason() == {"queue_full": 0, "export_failed": 0, "rejected": 0}


def test_spans_that_a_full_queue_drops_are_counted_exactly(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    traced.hang_with(10)
    traced.end_spans(CAPACITY + 37)
    counted_meanwhile = traced.lost.no_room
    traced.backend.flowing.set()
    traced.processor.force_flush()

    assert counted_meanwhile == traced.lost.no_room == 37
    assert len(traced.backend.taken) == 10 + CAPACITY
    assert caplog.text.count("the queue of 100 spans is full") == 1


def test_drops_go_on_being_counted_over_several_jams(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    for dropped in (5, 7, 11):
        traced.hang_with(1)
        traced.end_spans(CAPACITY + dropped)
        traced.backend.flowing.set()
        traced.processor.force_flush()

    assert traced.lost.by_reason()["queue_full"] == 5 + 7 + 11
    assert len(traced.backend.taken) == 3 * (1 + CAPACITY)
    assert caplog.text.count("is full") == 1


def test_every_span_is_exported_or_counted_when_many_threads_end_spans_at_once(traced: Traced) -> None:
    threads = [threading.Thread(target=traced.end_spans, args=[2000]) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    traced.processor.force_flush()

    # A span that ends while a batch changes hands may count as dropped though it is not.
    assert 8000 <= len(traced.backend.taken) + traced.lost.no_room <= 8000 + 80


def test_a_failing_backend_is_said_once_and_its_recovery_once(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    traced.backend.result = SpanExportResult.FAILURE
    for _ in range(5):
        traced.end_spans(3)
        traced.processor.force_flush()
    traced.backend.result = SpanExportResult.SUCCESS
    for _ in range(2):
        traced.end_spans(3)
        traced.processor.force_flush()

    assert traced.lost.by_reason() == {"queue_full": 0, "export_failed": 15, "rejected": 0}
    assert len(traced.backend.taken) == 6
    assert caplog.text.count("does not take spans") == 1
    assert caplog.text.count("takes spans again, after 15 were lost") == 1


def test_an_exporter_that_raises_counts_as_failed(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("opentelemetry.sdk").setLevel(logging.CRITICAL)
    traced.backend.error = ConnectionError("gone")

    traced.end_spans(4)
    traced.processor.force_flush()

    assert traced.lost.failed == 4
    assert "does not take spans" in caplog.text


def test_spans_that_are_not_sampled_were_never_to_be_exported_and_are_not_lost() -> None:
    lost = LostSpans(CAPACITY)
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(WatchedBatchSpanProcessor(Backend(), lost, CAPACITY, 60_000, CAPACITY))

    for _ in range(3 * CAPACITY):
        provider.get_tracer("test").start_span("unsampled").end()
    provider.shutdown()

    assert sum(lost.by_reason().values()) == 0


@pytest.mark.parametrize(
    ("status", "content", "refused"),
    [
        (200, ExportTraceServiceResponse(partial_success=REFUSED), 7),
        (200, ExportTraceServiceResponse(), 0),
        (200, b"", 0),
        (200, b"<html>welcome</html>", 0),
        (500, ExportTraceServiceResponse(partial_success=REFUSED), 0),
    ],
)
def test_what_the_backend_refuses_of_a_batch_is_read_from_its_answer(
    status: int, content: bytes | ExportTraceServiceResponse, refused: int, caplog: pytest.LogCaptureFixture
) -> None:
    lost = LostSpans(CAPACITY)
    (read,) = watching_session(lost).hooks["response"]
    answer = Response()
    answer.status_code = status
    answer._content = content if isinstance(content, bytes) else content.SerializeToString()

    read(answer)
    read(answer)

    assert lost.by_reason()["rejected"] == 2 * refused
    assert caplog.text.count("refuses spans: too old") == (1 if refused else 0)
