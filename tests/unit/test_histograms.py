"""The histograms that are counted here, held against the SDK's own for the same records."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from shared.telemetry.histograms import Histogram, with_histograms
from shared.telemetry.metrics import SECONDS

RECORDS = st.lists(
    st.tuples(
        st.floats(0, 20, allow_nan=False) | st.sampled_from(SECONDS),
        st.sampled_from([None, {"to": "a"}, {"to": "b", "by": "c"}]),
    )
)


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
@given(first=RECORDS, second=RECORDS)
def test_its_points_are_those_of_the_sdk(temporality: AggregationTemporality, first: Any, second: Any) -> None:
    reader = InMemoryMetricReader(preferred_temporality={SdkHistogram: temporality})
    provider = MeterProvider([reader], shutdown_on_exit=False)
    official = provider.get_meter("m").create_histogram("h", "s", "d", explicit_bucket_boundaries_advisory=SECONDS)
    own = Histogram("h", "s", "d", SECONDS)

    for records in (first, second):
        for value, attributes in records:
            official.record(value, attributes)
            own.record(value, attributes)

        assert _points(own.collect(temporality)) == _points(_only_metric(reader.get_metrics_data()))


def test_an_exemplar_names_a_sampled_span_and_only_a_sampled_one() -> None:
    own = Histogram("h", "s", "d", SECONDS)
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("t").start_as_current_span("not sampled"):
        own.record(0.02)
    with TracerProvider().get_tracer("t").start_as_current_span("sampled") as span:
        own.record(0.02)
        own.record(0.03)
        own.record(3)

    exemplars = _exemplars(own)

    context = span.get_span_context()
    assert [each.value for each in exemplars] == [0.02, 0.03, 3]
    assert {(each.trace_id, each.span_id) for each in exemplars} == {(context.trace_id, context.span_id)}
    assert _exemplars(own) == [], "each is exported once"


def test_what_is_exported_holds_the_histograms_beside_what_the_sdk_collected() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c").add(1)
    Histogram("tests.joined", "s", "d", SECONDS).record(1)

    (resource_metrics,) = with_histograms(reader.get_metrics_data() or MetricsData([]), {}).resource_metrics

    names = {metric.name for scope in resource_metrics.scope_metrics for metric in scope.metrics}
    assert {"c", "tests.joined"} <= names
    assert resource_metrics.resource == provider._sdk_config.resource


def _only_metric(data: MetricsData | None) -> Any:
    if data is None or not data.resource_metrics:
        return None
    return data.resource_metrics[0].scope_metrics[0].metrics[0]


def _points(metric: Any) -> Any:
    if metric is None:
        return None
    points = {
        frozenset(point.attributes.items()): (
            point.count,
            pytest.approx(point.sum),
            tuple(point.bucket_counts),
            tuple(point.explicit_bounds),
            point.min,
            point.max,
        )
        for point in metric.data.data_points
    }
    return metric.name, metric.unit, metric.description, metric.data.aggregation_temporality, points


def _exemplars(histogram: Histogram) -> Sequence[Any]:
    metric: Any = histogram.collect(AggregationTemporality.CUMULATIVE)
    assert trace.get_current_span().get_span_context().is_valid is False
    return [exemplar for point in metric.data.data_points for exemplar in point.exemplars]
