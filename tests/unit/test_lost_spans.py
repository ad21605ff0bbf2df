"""Spans that the SDK's own batch processor drops are counted, while its exporter blocks and many threads end spans."""

import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from shared.telemetry.account import Account
from shared.telemetry.batching import CountedBatchLogRecordProcessor, CountedBatchSpanProcessor

CAPACITY = 100
NONE_LOST = {"queue_full": 0, "buffer_full": 0, "export_failed": 0, "rejected": 0, "stopped": 0}


class Backend(SpanExporter):
    """An exporter that can hang."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.exporting = threading.Event()
        self.flowing = threading.Event()
        self.flowing.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exporting.set()
        assert self.flowing.wait(30)
        self.taken += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class Traced:
    """A tracer provider with a small queue before a backend."""

    def __init__(self) -> None:
        self.backend = Backend()
        self.account = Account("spans", "http://backend")
        self.processor = CountedBatchSpanProcessor(self.backend, self.account, CAPACITY, 60_000, CAPACITY)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self._tracer = self.provider.get_tracer("test")

    @property
    def dropped(self) -> int:
        return self.account.by_reason()["queue_full"]

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
    assert traced.account.by_reason() == NONE_LOST


def test_spans_that_a_full_queue_drops_are_counted_exactly(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    traced.hang_with(10)
    traced.end_spans(CAPACITY + 37)
    counted_meanwhile = traced.dropped
    traced.backend.flowing.set()
    traced.processor.force_flush()

    assert counted_meanwhile == traced.dropped == 37
    assert len(traced.backend.taken) == 10 + CAPACITY
    assert caplog.text.count("the queue of 100 spans is full") == 1


def test_drops_go_on_being_counted_over_several_jams(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    for dropped in (5, 7, 11):
        traced.hang_with(1)
        traced.end_spans(CAPACITY + dropped)
        traced.backend.flowing.set()
        traced.processor.force_flush()

    assert traced.account.by_reason() == {**NONE_LOST, "queue_full": 5 + 7 + 11}
    assert len(traced.backend.taken) == 3 * (1 + CAPACITY)
    assert caplog.text.count("is full") == 1


def test_every_span_is_exported_or_counted_when_many_threads_end_spans_at_once(traced: Traced) -> None:
    threads = [threading.Thread(target=traced.end_spans, args=[2000]) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    traced.processor.force_flush()

    # Between a look at the queue and the entry into it, another thread may come first.
    assert abs(8000 - len(traced.backend.taken) - traced.dropped) <= 80


def test_spans_that_are_not_sampled_were_never_to_be_exported_and_are_not_lost() -> None:
    account = Account("spans", "http://backend")
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(CountedBatchSpanProcessor(Backend(), account, CAPACITY, 60_000, CAPACITY))

    for _ in range(3 * CAPACITY):
        provider.get_tracer("test").start_span("unsampled").end()
    provider.shutdown()

    assert account.by_reason() == NONE_LOST


def test_log_records_that_a_full_queue_drops_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(LogRecordExporter):
        def export(self, _: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
            exporting.set()
            assert flowing.wait(30)
            return LogRecordExportResult.SUCCESS

        def shutdown(self) -> None:
            """Nothing to do."""

        def force_flush(self, _: int = 30_000) -> bool:
            return True

    exporting, flowing = threading.Event(), threading.Event()
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "600000")
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10")
    account = Account("log records", "http://backend")
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(CountedBatchLogRecordProcessor(Hanging(), account))

    for _ in range(10):
        provider.get_logger("test").emit(LogRecord(body="taken"))
    assert exporting.wait(30)
    for _ in range(13):
        provider.get_logger("test").emit(LogRecord(body="waits, or is too much"))
    flowing.set()
    provider.shutdown()

    assert account.by_reason() == {**NONE_LOST, "queue_full": 3}
