"""Counters and histograms that cost little to record with, behind the API of every meter.

The SDK hashes the attributes of each record, builds a measurement of it and asks for its context: 8 us, a dozen times a message.
A record here is an addition, 1 us. What was counted is read when metrics are exported: counters through the SDK's observable
ones; histograms, of which there are no observable ones, join at the exporter.
"""

import threading
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.util.types import Attributes

from .joined_histograms import JoinedHistograms, Key, LightHistogram, key_of


class LightMeterProvider(metrics.MeterProvider):
    """Gives meters whose counters and histograms are light, and whose other instruments are those of the SDK."""

    def __init__(self, inner: metrics.MeterProvider, histograms: JoinedHistograms) -> None:
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

    def begin(self, histogram: str, attributes: Attributes) -> None:
        """Report a series of a histogram from now on, before anything is recorded: a rate needs a sample to start from."""
        self._histograms.begin(histogram, attributes)


class _LightMeter(metrics.Meter):
    def __init__(self, inner: metrics.Meter, scope: InstrumentationScope, histograms: JoinedHistograms) -> None:
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
        return self._histograms.add(LightHistogram(self._scope, name, unit, description, bounds))

    def create_gauge(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_gauge(*args, **kwargs)

    def create_observable_counter(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_observable_counter(*args, **kwargs)

    def create_observable_up_down_counter(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_observable_up_down_counter(*args, **kwargs)

    def create_observable_gauge(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.create_observable_gauge(*args, **kwargs)


class _Counter(metrics.Counter, metrics.UpDownCounter):
    def __init__(self, create_observable: Callable[..., object], name: str, unit: str, description: str) -> None:
        self._counts: Counts[Key] = Counts()
        self._lock = threading.Lock()
        create_observable(name, [self._observe], unit, description)

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:  # noqa: ARG002
        with self._lock:
            self._counts[key_of(attributes)] += amount  # type: ignore[assignment] # whole numbers, as all are here

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            return [Observation(count, dict(key)) for key, count in self._counts.items()]


def begin(histogram: str, *series: Attributes) -> None:
    """Report series of a histogram from now on, before anything is recorded; the SDK's own histograms cannot."""
    provider = metrics.get_meter_provider()
    if isinstance(provider, LightMeterProvider):
        for attributes in series:
            provider.begin(histogram, attributes)
