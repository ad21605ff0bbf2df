"""The way of spans to a backend, watched: what is lost on it is counted and said once, not once a batch."""

import logging
from collections.abc import Sequence
from typing import Any

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_log = logging.getLogger(__name__)


class LostSpans:
    """Counts the spans that never reach the backend: no room in the queue, an export that failed, a span refused."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ended = 0
        self._handed_on = 0
        self.no_room = 0
        self.failed = 0
        self.refused = 0
        self._is_failing = False

    def by_reason(self) -> dict[str, int]:
        """Give the counts so far."""
        return {"queue_full": self.no_room, "export_failed": self.failed, "rejected": self.refused}

    def on_ended(self) -> None:
        """Count a span into the queue.

        A full queue drops one span for each that comes in, and then what has ended less what was handed on exceeds what the
        queue holds by the spans dropped so far; and by the few that end in the instant in which a batch changes hands.
        """
        self._ended += 1
        beyond = self._ended - self._handed_on - self._capacity
        if beyond > self.no_room:
            if self.no_room == 0:
                _log.warning("the telemetry backend is too slow: the queue of %d spans is full", self._capacity)
            self.no_room = beyond

    def on_handed_on(self, count: int) -> None:
        """Count a batch out of the queue."""
        self._handed_on += count

    def on_exported(self, count: int, succeeded: bool) -> None:
        """Count the result of an export; says when the backend goes and when it is back."""
        if not succeeded:
            self.failed += count
            if not self._is_failing:
                _log.warning("the telemetry backend does not take spans; orders go on, the spans are lost")
        elif self._is_failing:
            _log.warning("the telemetry backend takes spans again, after %d were lost", self.failed)
        self._is_failing = not succeeded

    def on_refused(self, count: int, why: str) -> None:
        """Count spans that the backend refused within a batch that it took."""
        if self.refused == 0:
            _log.warning("the telemetry backend refuses spans: %s", why[:200])
        self.refused += count


class WatchedExporter(SpanExporter):
    """Passes batches on to an exporter and keeps account of what becomes of them."""

    def __init__(self, inner: SpanExporter, lost: LostSpans) -> None:
        self._inner = inner
        self._lost = lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        self._lost.on_handed_on(len(spans))
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self._lost.on_exported(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter."""
        return self._inner.force_flush(timeout_millis)


class WatchedBatchSpanProcessor(BatchSpanProcessor):
    """The batch processor of the SDK, whose losses are counted."""

    def __init__(
        self, exporter: SpanExporter, lost: LostSpans, capacity: int, schedule_delay_ms: float, batch: int
    ) -> None:
        super().__init__(WatchedExporter(exporter, lost), capacity, schedule_delay_ms, batch)
        self._lost = lost

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._lost.on_ended()
        super().on_end(span)


def watching_session(lost: LostSpans) -> requests.Session:
    """Make an HTTP session that reads in each answer how many spans the backend refused: the exporter does not look."""

    def read(response: requests.Response, *_: Any, **__: Any) -> None:
        if response.status_code != requests.codes.ok or not response.content:
            return
        try:
            partial = ExportTraceServiceResponse.FromString(response.content).partial_success
        except Exception:  # an answer that is not OTLP says nothing of refused spans
            return
        if partial.rejected_spans > 0:
            lost.on_refused(partial.rejected_spans, partial.error_message)

    session = requests.Session()
    session.hooks["response"].append(read)
    return session
