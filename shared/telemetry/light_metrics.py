"""Counters and histograms that cost little to record with, behind the API of every meter.

The SDK hashes the attributes of each record, builds a measurement of it and asks for its context: 8 us, a dozen times an order.
A record here is an addition, 1 us. What was counted is read when metrics are exported: counters through the SDK's observable
ones; histograms, of which there are no observable ones, join at the exporter.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
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
from opentelemetry.util.types import Attributes

_Key = frozenset[tuple[str, Any]]


def _key(attributes: Attributes) -> _Key:
    return frozenset(attributes.items()) if attributes else frozenset()


class _Counter(metrics.Counter, metrics.UpDownCounter):
    def __init__(self, create_observable: Callable[..., object], name: str, unit: str, description: str) -> None:
        self._counts: Counts[_Key] = Counts()
        self._lock = threading.Lock()
        create_observable(name, [self._observe], unit, description)

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:  # noqa: ARG002
        with self._lock:
            self._counts[_key(attributes)] += amount  # type: ignore[assignment] # whole numbers, as all are here

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            return [Observation(count, dict(key)) for key, count in self._counts.items()]


@dataclass(slots=True)
class _Series:
    counts: list[int]
    since: int
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    exemplars: dict[int, sdk.Exemplar] = field(default_factory=dict)
    """The first sampled record of each bucket since the last export."""


class _Histogram(metrics.Histogram):
    def __init__(
        self, scope: InstrumentationScope, name: str, unit: str, description: str, bounds: Sequence[float]
    ) -> None:
        self.scope = scope
        self._name, self._unit, self._description, self._bounds = name, unit, description, tuple(bounds)
        self._series: dict[_Key, _Series] = {}
        self._lock = threading.Lock()

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        key, bucket = _key(attributes), bisect_left(self._bounds, amount)
        with self._lock:
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = _Series([0] * (len(self._bounds) + 1), time.time_ns())
            series.counts[bucket] += 1
            series.total += amount
            series.least = min(series.least, amount)
            series.most = max(series.most, amount)
            if bucket not in series.exemplars:
                span = trace.get_current_span(context).get_span_context()
                if span.trace_flags.sampled:
                    series.exemplars[bucket] = sdk.Exemplar({}, amount, time.time_ns(), span.span_id, span.trace_id)

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

    def _point(self, attributes: Mapping[str, Any], series: _Series, now: int) -> HistogramDataPoint:
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


class LightMeterProvider(metrics.MeterProvider):
    """Gives meters whose counters and histograms are light, and whose other instruments are those of the SDK."""

    def __init__(self, inner: metrics.MeterProvider, histograms: "JoinedHistograms") -> None:
        self._inner = inner
        self._histograms = histograms

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> metrics.Meter:
        """Give a meter."""
        inner = self._inner.get_meter(name, version, schema_url, attributes)
        return _LightMeter(inner, InstrumentationScope(name, version, schema_url, attributes), self._histograms)


class _LightMeter(metrics.Meter):
    def __init__(self, inner: metrics.Meter, scope: InstrumentationScope, histograms: "JoinedHistograms") -> None:
        super().__init__(scope.name, scope.version, scope.schema_url)
        self._inner = inner
        self._scope = scope
        self._histograms = histograms

    def create_counter(self, name: str, unit: str = "", description: str = "") -> metrics.Counter:
        return _Counter(self._inner.create_observable_counter, name, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> metrics.UpDownCounter:
        return _Counter(self._inner.create_observable_up_down_counter, name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> metrics.Histogram:
        bounds = explicit_bucket_boundaries_advisory
        if bounds is None:  # which the SDK has its own for
            return self._inner.create_histogram(name, unit, description)
        return self._histograms.add(_Histogram(self._scope, name, unit, description, bounds))

    def create_gauge(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_gauge(*args, **kwargs)

    def create_observable_counter(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_observable_counter(*args, **kwargs)

    def create_observable_up_down_counter(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_observable_up_down_counter(*args, **kwargs)

    def create_observable_gauge(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_observable_gauge(*args, **kwargs)


class JoinedHistograms:
    """The histograms of all meters, to be joined with what the SDK has collected."""

    def __init__(self) -> None:
        self._all: list[_Histogram] = []

    def add(self, histogram: _Histogram) -> _Histogram:
        """Take in a histogram."""
        self._all.append(histogram)
        return histogram

    def join(self, found: MetricsData, temporality: AggregationTemporality) -> MetricsData:
        """Give what the SDK has collected and the histograms, each in its scope."""
        by_scope: dict[InstrumentationScope, list[Metric]] = {}
        for histogram in self._all:
            if (metric := histogram.collect(temporality)) is not None:
                by_scope.setdefault(histogram.scope, []).append(metric)
        return MetricsData(
            [
                ResourceMetrics(each.resource, _merged(each.scope_metrics, by_scope), each.schema_url)
                for each in found.resource_metrics
            ]
        )


def _merged(found: Sequence[ScopeMetrics], by_scope: Mapping[InstrumentationScope, list[Metric]]) -> list[ScopeMetrics]:
    """Give one entry a scope: of two, the official encoder would send the last."""
    merged = {each.scope: list(each.metrics) for each in found}
    for scope, collected in by_scope.items():
        merged.setdefault(scope, []).extend(collected)
    return [ScopeMetrics(scope, collected, scope.schema_url or "") for scope, collected in merged.items()]


class JoiningMetricExporter(OTLPMetricExporter):
    """The official exporter, which sends the histograms along with what the SDK has collected."""

    def __init__(self, histograms: JoinedHistograms, **target: Any) -> None:
        super().__init__(**target)
        self._histograms = histograms

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send all metrics of one interval."""
        preferred = (self._preferred_temporality or {}).get(sdk.Histogram, AggregationTemporality.CUMULATIVE)
        return super().export(self._histograms.join(metrics_data, preferred), timeout_millis, **kwargs)
