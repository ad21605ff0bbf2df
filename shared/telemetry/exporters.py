"""The exporters of the three signals: each encodes a batch, hands it to its sender, and never waits for the backend."""

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.common._aggregation import _get_aggregation, _get_temporality
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .account import Account
from .buffer import Buffer
from .joined_histograms import JoinedHistograms
from .otlp_http import OtlpHttp
from .sender import Sender
from .target import Target

_SIGNALS: dict[str, tuple[str, Any, str]] = {
    "traces": ("spans", ExportTraceServiceResponse, "rejected_spans"),
    "metrics": ("data points", ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": ("log records", ExportLogsServiceResponse, "rejected_log_records"),
}


def sender_of(signal: str, target: Target, limit: float, most: int) -> Sender:
    """Make the sender of `traces`, `metrics` or `logs`; for `limit` and `most` see `Buffer`."""
    noun, response_type, rejected_field = _SIGNALS[signal]
    http = OtlpHttp(target, response_type, rejected_field)
    return Sender(http.send, Account(noun, target.address), Buffer(limit, most))


class BufferedSpanExporter(SpanExporter):
    """Exports spans as `encode` writes a batch of them."""

    def __init__(self, sender: Sender, encode: Callable[[Sequence[ReadableSpan]], bytes]) -> None:
        self.sender = sender
        self._encode = encode

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand a batch over."""
        is_encoded = _hand_over(self.sender, lambda: self._encode(spans), len(spans))
        return SpanExportResult.SUCCESS if is_encoded else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Send what waits, and stop."""
        self.sender.end()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Wait until all is sent."""
        return self.sender.flush(timeout_millis / 1000)


class BufferedLogExporter(LogRecordExporter):
    """Exports log records."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Hand a batch over."""
        is_encoded = _hand_over(self.sender, lambda: encode_logs(batch).SerializeToString(), len(batch))
        return LogRecordExportResult.SUCCESS if is_encoded else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Send what waits, and stop."""
        self.sender.end()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Wait until all is sent."""
        return self.sender.flush(timeout_millis / 1000)


class BufferedMetricExporter(MetricExporter):
    """Exports metrics, and the light histograms along with what the SDK has collected."""

    def __init__(self, sender: Sender, histograms: JoinedHistograms) -> None:
        self._temporalities = _get_temporality(None)
        super().__init__(self._temporalities, _get_aggregation(None))
        self.sender = sender
        self._histograms = histograms

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - it takes none
        **_: Any,
    ) -> MetricExportResult:
        """Hand all metrics of one interval over."""
        temporality = self._temporalities.get(Histogram, AggregationTemporality.CUMULATIVE)
        joined = self._histograms.join(metrics_data, temporality)
        is_encoded = _hand_over(self.sender, lambda: encode_metrics(joined).SerializeToString(), _points_in(joined))
        return MetricExportResult.SUCCESS if is_encoded else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ARG002 - the sender has its own
        """Send what waits, and stop."""
        self.sender.end()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until all is sent."""
        return self.sender.flush(timeout_millis / 1000)


def _hand_over(sender: Sender, encode: Callable[[], bytes], count: int) -> bool:
    try:
        body = encode()
    except Exception as error:  # of a batch that nobody can send, none is heard of again: it counts as lost
        sender.account.on_refused("encoding", f"{type(error).__name__} in encoding", count)
        return False
    sender.put(body, count)
    return True


def _points_in(metrics: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in metrics.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
