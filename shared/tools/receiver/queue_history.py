"""The broker's queues over time, from the metrics that the services report of them: the newest hour, in bounded memory."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp

from shared.telemetry.semconv import MESSAGING_DESTINATION_NAME
from shared.tools.traces.otlp import decode_attributes

MOST_POINTS = 720
"""Of each series: two hours at the usual interval of 10 s."""
MOST_SERIES = 400
GAUGES = ("ready", "unacked", "consumers", "oldest")
_PREFIX, _COUNTS, _WAIT = "orders.queue.", "orders.queue.messages", "orders.queue_wait"

Point = tuple[int, float]
"""Nanoseconds since the epoch, and a value."""


@dataclass(slots=True)
class _Histogram:
    """The latest counts of a histogram series, to be subtracted from the next ones."""

    count: int
    buckets: Sequence[int]


@dataclass(slots=True)
class QueueSeries:
    """What is known of one queue over time; each series in order of time."""

    lines: dict[str, deque[Point]] = field(default_factory=dict)
    """By gauge, by operation for rates a second, and p50 and p95 of the wait in seconds."""

    def add(self, name: str, at_ns: int, value: float) -> None:
        """Take a point in."""
        line = self.lines.setdefault(name, deque(maxlen=MOST_POINTS))
        if not line or at_ns > line[-1][0]:
            line.append((at_ns, value))

    def since(self, name: str, start_ns: int) -> list[Point]:
        """The points of a line from a time on."""
        line = list(self.lines.get(name, ()))
        return line[bisect_left(line, (start_ns, float("-inf"))) :]


class QueueHistory:
    """Every queue by name. Not thread-safe."""

    def __init__(self) -> None:
        self.queues: dict[str, QueueSeries] = {}
        self.revision = 0
        self._counts: dict[tuple[str, ...], tuple[int, float]] = {}
        self._waits: dict[tuple[str, ...], _Histogram] = {}

    def add(self, request: ExportMetricsServiceRequest) -> None:
        """Take in what an export says of queues."""
        for of_resource in request.resource_metrics:
            instance = str(decode_attributes(of_resource.resource.attributes).get("service.instance.id", ""))
            for metric in (metric for of_scope in of_resource.scope_metrics for metric in of_scope.metrics):
                if metric.name.startswith(_PREFIX) or metric.name == _WAIT:
                    self._add(metric, instance)

    def _add(self, metric: otlp.Metric, instance: str) -> None:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points if kind in ("gauge", "sum", "histogram") else ():
            attributes = decode_attributes(point.attributes)
            queue = str(attributes.get(MESSAGING_DESTINATION_NAME, ""))
            series = self.queues.get(queue)
            if series is None:
                if not queue or len(self.queues) >= MOST_SERIES:
                    continue
                series = self.queues[queue] = QueueSeries()
            self.revision += 1
            if metric.name == _WAIT and kind == "histogram":
                self._add_wait(series, (instance, queue), point)
            elif metric.name == _COUNTS:
                key = (instance, queue, str(attributes.get("operation", "")))
                self._add_count(series, key, point.time_unix_nano, point.as_double or point.as_int)
            elif (name := metric.name.removeprefix(_PREFIX)) in GAUGES:
                series.add(name, point.time_unix_nano, point.as_double or point.as_int)

    def _add_count(self, series: QueueSeries, key: tuple[str, ...], at_ns: int, value: float) -> None:
        before = self._counts.get(key)
        if len(self._counts) < MOST_SERIES * 4 or before is not None:
            self._counts[key] = at_ns, value
        if before is not None and at_ns > before[0] and value >= before[1]:
            series.add(key[-1], at_ns, (value - before[1]) / ((at_ns - before[0]) / 1e9))

    def _add_wait(self, series: QueueSeries, key: tuple[str, ...], point: otlp.HistogramDataPoint) -> None:
        before = self._waits.get(key)
        if before is None and len(self._waits) >= MOST_SERIES * 4:
            return
        self._waits[key] = _Histogram(point.count, list(point.bucket_counts))
        if before is None or point.count <= before.count or len(before.buckets) != len(point.bucket_counts):
            return
        new = [now - then for now, then in zip(point.bucket_counts, before.buckets, strict=True)]
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            series.add(name, point.time_unix_nano, quantile(share, list(point.explicit_bounds), new))


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """The value that a share of what a histogram counted does not exceed, linear within its bucket."""
    rank, below = share * sum(counts), 0
    for place, count in enumerate(counts):
        if count and below + count >= rank:
            start = bounds[place - 1] if place else 0.0
            end = bounds[place] if place < len(bounds) else bounds[-1]
            return start + (end - start) * (rank - below) / count
        below += count
    return bounds[-1] if bounds else 0.0
