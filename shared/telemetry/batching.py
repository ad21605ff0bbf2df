"""The batch processors of the SDK, whose queues drop the oldest when they are full and tell nobody: here it is counted."""

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from .account import QUEUE_FULL, Account


class CountedBatchSpanProcessor(BatchSpanProcessor):
    """Batches spans; `capacity` and `batch` are numbers of spans."""

    def __init__(
        self, exporter: SpanExporter, account: Account, capacity: int, schedule_delay_ms: float, batch: int
    ) -> None:
        super().__init__(exporter, capacity, schedule_delay_ms, batch)
        self._account = account
        self._capacity = capacity

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span."""
        is_sampled = span.context is not None and span.context.trace_flags.sampled
        # As the SDK does it, which drops one for each that comes in; exact while one thread ends spans, near otherwise.
        if is_sampled and len(self._batch_processor._queue) >= self._capacity:
            self._account.on_overflow(QUEUE_FULL, f"the queue of {self._capacity} spans", 1)
        super().on_end(span)


class CountedBatchLogRecordProcessor(BatchLogRecordProcessor):
    """Batches log records, with the numbers of the OTEL_BLRP_* variables."""

    def __init__(self, exporter: LogRecordExporter, account: Account) -> None:
        super().__init__(exporter)
        self._account = account

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue a log record."""
        queue = self._batch_processor
        if len(queue._queue) >= queue._max_queue_size:
            self._account.on_overflow(QUEUE_FULL, f"the queue of {queue._max_queue_size} log records", 1)
        super().on_emit(log_record)
