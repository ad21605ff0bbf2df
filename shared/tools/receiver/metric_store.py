"""The latest data point of every metric series, in bounded memory."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp

from shared.tools.receiver.origins import Origins
from shared.tools.traces.model import Attributes
from shared.tools.traces.otlp import decode_attributes

_LONGEST_KEY = 4096
"""Characters of a series' name and attributes: a longer one is not kept, so that series cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """The last value of a gauge or sum, or the count and sum of a histogram; no value where it is not finite."""

    service: str
    name: str
    unit: str
    attributes: Attributes
    time_ns: int
    value: float | None
    count: int | None = None


class MetricStore:
    """The `max_series` series that were written last. Not thread-safe."""

    def __init__(self, max_series: int = 2_000) -> None:
        self._max_series = max_series
        self._series: OrderedDict[str, MetricPoint] = OrderedDict()
        self._origins = Origins()
        self.on_export: Callable[[ExportMetricsServiceRequest], None] = lambda _: None
        """Who else wants to hear of each export."""

    def add(self, request: ExportMetricsServiceRequest) -> int:
        """Keeps the last point of every series of one export; rejects none."""
        self.on_export(request)
        for of_resource in request.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                service = self._origins.of(of_resource.resource, of_scope.scope).service
                for metric in of_scope.metrics:
                    for point in _points(metric, service):
                        self._keep(point)
        return 0

    def latest(self) -> list[MetricPoint]:
        """Every series' last point, by service and name."""
        return sorted(self._series.values(), key=lambda point: (point.service, point.name))

    def _keep(self, point: MetricPoint) -> None:
        key = repr((point.service, point.name, sorted(point.attributes.items(), key=lambda item: item[0])))
        if len(key) > _LONGEST_KEY:
            return
        self._series[key] = point
        self._series.move_to_end(key)
        if len(self._series) > self._max_series:
            self._series.popitem(last=False)


def _points(metric: otlp.Metric, service: str) -> list[MetricPoint]:
    kind = metric.WhichOneof("data")
    if kind in ("gauge", "sum"):
        numbers = getattr(metric, kind).data_points
        values = [(point, point.as_double or point.as_int, None) for point in numbers]
    elif kind is not None:
        values = [(point, point.sum, point.count) for point in getattr(metric, kind).data_points]
    else:
        values = []
    return [
        MetricPoint(
            service=service,
            name=metric.name,
            unit=metric.unit,
            attributes=decode_attributes(point.attributes),
            time_ns=point.time_unix_nano,
            value=value if math.isfinite(value) else None,
            count=count,
        )
        for point, value, count in values
    ]
