"""The streams that alerts need, made by a first span and first samples where nobody has sent any yet.

OpenObserve takes an alert only over a stream that exists, with the columns that its query names. It proves the way in, too: an
export that was answered 200 may still not be there. So we look.
"""

import secrets
import time
from collections.abc import Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.tools.openobserve.client import STREAM, ObserveError, OpenObserve

SECONDS = 15.0
SERVICE = "orders-cli"
_LOOK_SECONDS = 0.2


def streams(client: OpenObserve, kind: str) -> set[str]:
    """Name the streams of `traces` or `metrics`; none in an organization that does not exist yet."""
    try:
        listed = client.call("GET", "streams", type=kind, fetchSchema="false")["list"]
    except ObserveError as error:
        if error.code == 404:
            return set()
        raise
    return {stream["name"] for stream in listed}


def send_span(client: OpenObserve) -> None:
    """Send the span of this very set-up, and wait until it can be found. Raises ObserveError."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = SERVICE
    trace_id, now = secrets.token_bytes(16), time.time_ns()
    of_resource.scope_spans.add().spans.add(
        trace_id=trace_id,
        span_id=secrets.token_bytes(8),
        name="observe setup",
        kind="SPAN_KIND_INTERNAL",
        start_time_unix_nano=now,
        end_time_unix_nano=now + 1_000_000,
    )
    client.ingest("traces", request.SerializeToString())
    looking = f"SELECT span_id FROM \"{STREAM}\" WHERE trace_id = '{trace_id.hex()}'"  # noqa: S608
    deadline = time.monotonic() + SECONDS
    while not client.search(looking, now // 1000 - 1, time.time_ns() // 1000 + 60_000_000, 1):
        _pause(deadline, f"{client.url} does not show the span that it was sent.")


def send_samples(client: OpenObserve, metrics: Mapping[str, tuple[str, ...]]) -> None:
    """Send a 0 of each metric with these labels, and wait until its stream is there. Raises ObserveError.

    The labels say `none`, so no alert fires for it.
    """
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = SERVICE
    scope = of_resource.scope_metrics.add()
    for name, labels in metrics.items():
        point = scope.metrics.add(name=name).gauge.data_points.add(time_unix_nano=time.time_ns(), as_double=0.0)
        for label in labels:
            point.attributes.add(key=label).value.string_value = "none"
    client.ingest("metrics", request.SerializeToString())
    deadline = time.monotonic() + SECONDS
    while missing := metrics.keys() - streams(client, "metrics"):
        _pause(deadline, f"{client.url} does not show the samples that it was sent: {', '.join(sorted(missing))}.")


def _pause(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise ObserveError(what)
    time.sleep(_LOOK_SECONDS)
