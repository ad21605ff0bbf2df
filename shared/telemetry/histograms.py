"""Histograms that are counted here and join what the SDK exports.

The SDK hashes the attributes of each record, and asks for its context: at ten records an order that was one part in fifteen
of what an order cost. A record here is a search in a dozen bounds and an addition. Counters can be observed when they are
exported; the API has no histogram that could, so these come in at the exporter.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as Points
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from shared.telemetry import semconv

_SCOPE = InstrumentationScope("traced-orders", schema_url=semconv.SCHEMA_URL)


@dataclass(slots=True)
class _Series:
    counts: list[int]
    since: int
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    exemplars: dict[int, sdk.Exemplar] = field(default_factory=dict)
    """The first traced record of each bucket since the last export."""


class Histogram:
    """A histogram with fixed bounds."""

    def __init__(self, name: str, unit: str, description: str, bounds: Sequence[float]) -> None:
        self._name, self._unit, self._description, self._bounds = name, unit, description, tuple(bounds)
        self._series: dict[tuple[tuple[str, str], ...], _Series] = {}
        self._lock = threading.Lock()
        _histograms.append(self)

    def record(self, value: float, attributes: Mapping[str, str] | None = None) -> None:
        """Count a value into its bucket."""
        key = tuple(attributes.items()) if attributes else ()
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = _Series([0] * (len(self._bounds) + 1), time.time_ns())
            series.counts[bucket] += 1
            series.total += value
            series.least = min(series.least, value)
            series.most = max(series.most, value)
            if bucket not in series.exemplars:
                span = trace.get_current_span().get_span_context()
                if span.trace_flags.sampled:
                    series.exemplars[bucket] = sdk.Exemplar({}, value, time.time_ns(), span.span_id, span.trace_id)

    def collect(self, temporality: AggregationTemporality) -> Metric | None:
        """Give what was recorded, since the start or, as a delta, since the call before; None where that is nothing."""
        now = time.time_ns()
        with self._lock:
            points = [self._point(dict(key), series, now) for key, series in self._series.items()]
            if temporality is AggregationTemporality.DELTA:
                self._series.clear()
            for series in self._series.values():
                series.exemplars = {}
        return Metric(self._name, self._description, self._unit, Points(points, temporality)) if points else None

    def _point(self, attributes: Mapping[str, str], series: _Series, now: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=series.since,
            time_unix_nano=now,
            count=sum(series.counts),
            sum=series.total,
            bucket_counts=list(series.counts),
            explicit_bounds=self._bounds,
            min=series.least,
            max=series.most,
            exemplars=list(series.exemplars.values()),
        )


_histograms: list[Histogram] = []


class JoiningMetricExporter(OTLPMetricExporter):
    """The official exporter, which sends these histograms along with what the SDK has collected."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send all metrics of one interval."""
        return super().export(
            with_histograms(metrics_data, self._preferred_temporality or {}), timeout_millis, **kwargs
        )


def with_histograms(found: MetricsData, preferred: Mapping[type, AggregationTemporality]) -> MetricsData:
    """Add the histograms to what the SDK has collected, in the temporality that is preferred for histograms."""
    temporality = preferred.get(sdk.Histogram, AggregationTemporality.CUMULATIVE)
    collected = [metric for histogram in _histograms if (metric := histogram.collect(temporality)) is not None]
    ours = ScopeMetrics(_SCOPE, collected, semconv.SCHEMA_URL)
    return MetricsData(
        [
            ResourceMetrics(each.resource, [*each.scope_metrics, ours], each.schema_url)
            for each in found.resource_metrics
        ]
    )
