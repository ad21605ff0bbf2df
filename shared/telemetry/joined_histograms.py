"""Histograms that cost little to record with, and join what the SDK has collected at the exporter.

The SDK has no observable histograms, which could be read only when metrics are exported, as `light_metrics` does it with
counters.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as Points
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.util.types import Attributes

from .metrics import Series

Key = frozenset[tuple[str, Any]]
"""The attributes of a series, in whatever order they were given."""


def key_of(attributes: Attributes) -> Key:
    """Give the key of the series that a record with these attributes belongs to."""
    if type(attributes) is Series:
        return attributes.key
    return frozenset(attributes.items()) if attributes else frozenset()


@dataclass(slots=True)
class _Series:
    counts: list[int]
    since: int
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    exemplars: dict[int, sdk.Exemplar] = field(default_factory=dict)
    """The first sampled record of each bucket since the last export."""


class LightHistogram(metrics.Histogram):
    """A histogram with the bounds that it was given: a record is an addition in one of its buckets."""

    def __init__(
        self, scope: InstrumentationScope, name: str, unit: str, description: str, bounds: Sequence[float]
    ) -> None:
        self.scope = scope
        self.name = name
        self._unit, self._description, self._bounds = unit, description, tuple(bounds)
        self._series: dict[Key, _Series] = {}
        self._lock = threading.Lock()

    def begin(self, attributes: Attributes) -> None:
        """Report a series from now on, at first with nothing in it."""
        with self._lock:
            self._series.setdefault(key_of(attributes), self._new_series())

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Count an amount into its bucket."""
        key, bucket = key_of(attributes), bisect_left(self._bounds, amount)
        with self._lock:
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = self._new_series()
            series.counts[bucket] += 1
            series.total += amount
            series.least = min(series.least, amount)
            series.most = max(series.most, amount)
            if bucket not in series.exemplars:
                span = trace.get_current_span(context).get_span_context()
                if span.trace_flags.sampled:
                    series.exemplars[bucket] = sdk.Exemplar({}, amount, time.time_ns(), span.span_id, span.trace_id)

    def _new_series(self) -> _Series:
        return _Series([0] * (len(self._bounds) + 1), time.time_ns())

    def collect(self, temporality: AggregationTemporality) -> Metric | None:
        """Give what was recorded, since the start or, as a delta, since the call before; None where that is nothing."""
        now = time.time_ns()
        with self._lock:
            points = [self._point(dict(key), series, now) for key, series in self._series.items()]
            if temporality is AggregationTemporality.DELTA:
                self._series.clear()
            for series in self._series.values():
                series.exemplars = {}
        return Metric(self.name, self._description, self._unit, Points(points, temporality)) if points else None

    def _point(self, attributes: Mapping[str, Any], series: _Series, now: int) -> HistogramDataPoint:
        count = sum(series.counts)
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=series.since,
            time_unix_nano=now,
            count=count,
            sum=series.total,
            bucket_counts=list(series.counts),
            explicit_bounds=self._bounds,
            min=series.least if count else 0.0,
            max=series.most if count else 0.0,
            exemplars=list(series.exemplars.values()),
        )


class JoinedHistograms:
    """The histograms of all meters, to be joined with what the SDK has collected."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], LightHistogram] = {}

    def add(self, histogram: LightHistogram) -> LightHistogram:
        """Take in a histogram; gives the one that is there already under its scope and name, where one is."""
        return self._all.setdefault((histogram.scope.name, histogram.name), histogram)

    def begin(self, name: str, attributes: Attributes) -> None:
        """Report a series of the histograms of a name from now on, before anything is recorded."""
        for histogram in self._all.values():
            if histogram.name == name:
                histogram.begin(attributes)

    def join(self, found: MetricsData, temporality: AggregationTemporality) -> MetricsData:
        """Give what the SDK has collected and the histograms, each in its scope."""
        by_scope: dict[InstrumentationScope, list[Metric]] = {}
        for histogram in self._all.values():
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
