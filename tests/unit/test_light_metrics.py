"""The counters and histograms that are light, held against the SDK's own for the same records."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from shared.telemetry.joined_histograms import JoinedHistograms
from shared.telemetry.light_metrics import LightMeterProvider
from shared.telemetry.metrics import SECONDS

RECORDS = st.lists(
    st.tuples(
        st.floats(0, 20, allow_nan=False) | st.sampled_from(SECONDS),
        st.sampled_from([None, {"to": "a"}, {"to": "b", "by": "c"}]),
    )
)


class Metered:
    """A meter provider, light or the SDK's own, and what it would export."""

    def __init__(self, temporality: AggregationTemporality, *, is_light: bool) -> None:
        self._temporality = temporality
        preferred = {SdkHistogram: temporality, SdkCounter: temporality, ObservableCounter: temporality}
        self._reader = InMemoryMetricReader(preferred_temporality=preferred)  # type: ignore[arg-type]
        official = MeterProvider([self._reader], shutdown_on_exit=False)
        self._joined = JoinedHistograms()
        provider = LightMeterProvider(official, self._joined) if is_light else official
        meter = provider.get_meter("m", schema_url="https://example.com/1")
        self.histogram = meter.create_histogram("h", "s", "d", explicit_bucket_boundaries_advisory=SECONDS)
        self.counter = meter.create_counter("c", "{c}", "counts")
        self.up_down = meter.create_up_down_counter("u", "{u}", "goes up and down")

    def record(self, amount: float, attributes: Any) -> None:
        """Record an amount with every instrument."""
        self.histogram.record(amount, attributes)
        self.counter.add(2, attributes)
        self.up_down.add(1 if amount < 1 else -1, attributes)

    def metrics(self) -> dict[tuple[str, str], Any]:
        """Give what would be exported, by scope and name."""
        found = self._reader.get_metrics_data()
        if found is None:
            return {}
        scopes = [
            each
            for resource in self._joined.join(found, self._temporality).resource_metrics
            for each in resource.scope_metrics
        ]
        assert len(scopes) <= 1, "of two entries of one scope, the encoder sends the last"
        return {
            (f"{each.scope.name} {each.schema_url}", metric.name): metric for each in scopes for metric in each.metrics
        }


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
@settings(deadline=None)
@given(first=RECORDS, second=RECORDS)
def test_what_is_exported_is_what_the_sdk_would_export(
    temporality: AggregationTemporality, first: Any, second: Any
) -> None:
    light, official = Metered(temporality, is_light=True), Metered(temporality, is_light=False)

    for records in (first, second):
        for amount, attributes in records:
            light.record(amount, attributes)
            official.record(amount, attributes)
        found = light.metrics()
        for key, expected in official.metrics().items():
            assert _points(found[key]) == _points(expected)


def test_the_order_of_the_attributes_makes_no_other_series() -> None:
    light = Metered(AggregationTemporality.CUMULATIVE, is_light=True)
    light.record(1, {"a": "1", "b": 2})
    light.record(1, {"b": 2, "a": "1"})

    assert {name: len(metric.data.data_points) for (_, name), metric in light.metrics().items()} == {
        "h": 1,
        "c": 1,
        "u": 1,
    }


def test_a_histogram_without_bounds_has_those_of_the_sdk() -> None:
    reader = InMemoryMetricReader()
    provider = LightMeterProvider(MeterProvider([reader], shutdown_on_exit=False), JoinedHistograms())
    provider.get_meter("m").create_histogram("h").record(3)

    data: Any = reader.get_metrics_data()

    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert len(point.explicit_bounds) > 10


def test_an_exemplar_names_a_sampled_span_and_only_a_sampled_one() -> None:
    light = Metered(AggregationTemporality.CUMULATIVE, is_light=True)
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("t").start_as_current_span("not sampled"):
        light.record(0.02, None)
    with TracerProvider().get_tracer("t").start_as_current_span("sampled") as span:
        for amount in (0.02, 0.03, 3):
            light.record(amount, None)

    exemplars = _exemplars(light)

    context = span.get_span_context()
    assert [each.value for each in exemplars] == [0.02, 0.03, 3]
    assert {(each.trace_id, each.span_id) for each in exemplars} == {(context.trace_id, context.span_id)}
    assert _exemplars(light) == [], "each is exported once"


def _points(metric: Any) -> Any:
    points = {}
    for point in metric.data.data_points:
        key = frozenset(point.attributes.items())
        if hasattr(point, "bucket_counts"):
            distribution = tuple(point.bucket_counts), tuple(point.explicit_bounds), point.min, point.max
            points[key] = point.count, pytest.approx(point.sum), distribution
        elif point.value or metric.data.aggregation_temporality is not AggregationTemporality.DELTA:
            points[key] = point.value  # an observable counter says each time that a series has not grown
    return metric.name, metric.unit, metric.description, metric.data.aggregation_temporality, points


def _exemplars(metered: Metered) -> Sequence[Any]:
    (histogram,) = (metric for (_, name), metric in metered.metrics().items() if name == "h")
    return [exemplar for point in histogram.data.data_points for exemplar in point.exemplars]
