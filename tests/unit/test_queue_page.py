"""The queues over time, from the metrics that a service reports of them: a lag can be seen to come and go."""

import re
import time

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from shared.tools.receiver.asgi import create_app
from shared.tools.receiver.queue_history import MOST_POINTS, QueueHistory, quantile
from shared.tools.receiver.queue_view import render_queues
from tests.browser.embedded_receiver import AUTH, PROTOBUF, SETTINGS, serving

QUEUE = "inventory.check"
SECOND = 10**9


def _export(
    at_ns: int, ready: int, published: int, waits: tuple[int, int] = (0, 0), queue: str = QUEUE
) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    gauge = metrics.add(name="orders.queue.ready").gauge.data_points.add(time_unix_nano=at_ns, as_int=ready)
    counted = metrics.add(name="orders.queue.messages").sum.data_points.add(time_unix_nano=at_ns, as_int=published)
    counted.attributes.add(key="operation").value.string_value = "publish"
    waited = metrics.add(name="orders.queue_wait").histogram.data_points.add(
        time_unix_nano=at_ns, count=sum(waits), explicit_bounds=[0.1, 1.0], bucket_counts=[*waits, 0]
    )
    for point in (gauge, counted, waited):
        point.attributes.add(key="messaging.destination.name").value.string_value = queue
    return request


def test_depth_rate_and_wait_are_kept_over_time() -> None:
    history = QueueHistory()

    history.add(_export(10 * SECOND, ready=0, published=100, waits=(10, 0)))
    history.add(_export(20 * SECOND, ready=400, published=600, waits=(10, 90)))
    history.add(_export(30 * SECOND, ready=0, published=600, waits=(110, 90)))

    lines = {name: [value for _, value in line] for name, line in history.queues[QUEUE].lines.items()}
    assert lines["ready"] == [0, 400, 0]
    assert lines["publish"] == [50, 0]
    assert lines["p50"] == [pytest.approx(0.55), pytest.approx(0.05)]


def test_a_broker_that_counts_anew_makes_no_negative_rate() -> None:
    history = QueueHistory()

    history.add(_export(10 * SECOND, 0, published=1000))
    history.add(_export(20 * SECOND, 0, published=5))
    history.add(_export(30 * SECOND, 0, published=25))

    assert [value for _, value in history.queues[QUEUE].lines["publish"]] == [2.0]


def test_memory_is_bounded() -> None:
    history = QueueHistory()

    for number in range(2 * MOST_POINTS):
        history.add(_export(number * SECOND, number, number))

    assert len(history.queues[QUEUE].lines["ready"]) == MOST_POINTS


@pytest.mark.parametrize(
    ("share", "counts", "expected"), [(0.5, [10, 0, 0], 0.05), (0.95, [0, 0, 4], 1.0), (0.5, [0, 0, 0], 1.0)]
)
def test_a_quantile_lies_within_its_bucket(share: float, counts: list[int], expected: float) -> None:
    assert quantile(share, [0.1, 1.0], counts) == pytest.approx(expected)


def test_the_page_shows_a_spike_after_it_has_gone() -> None:
    now = time.time_ns()
    with serving(create_app(SETTINGS)) as url, httpx.Client(base_url=url, auth=AUTH, trust_env=False) as client:
        empty = client.get("/queues").text
        for age, ready in ((300, 0), (200, 400), (100, 0)):
            body = _export(now - age * SECOND, ready, 100).SerializeToString()
            client.post("/v1/metrics", content=body, headers=PROTOBUF).raise_for_status()
        shown = client.get("/queues").text

        assert "No service has told of the queues yet" in empty
        assert "ready 0 (most 400)" in shown
        assert client.get("/queues?minutes=7").status_code == 422
        assert client.get("/queues/dead").status_code == 404, "nobody has said where the broker is"


def test_retry_queues_stand_by_their_delay_and_after_the_queues_with_messages() -> None:
    history, now = QueueHistory(), time.time_ns()
    delays = ["500ms", "2000ms", "30000ms"]
    for delay in sorted(delays):
        history.add(_export(now, ready=0, published=0, queue=f"inventory.check.retry.{delay}"))
    history.add(_export(now, ready=3, published=3, queue="orders.dead"))
    for foreign in ("\N{ARABIC-INDIC DIGIT THREE}", "z" + "9" * 5000):
        history.add(_export(now, ready=0, published=0, queue=foreign))

    shown = re.findall(r'scope="row">([^<]*)<', str(render_queues(history, "15", has_letters=False)))

    assert shown[:4] == ["orders.dead", *(f"inventory.check.retry.{delay}" for delay in delays)]
    assert len(shown) == 6
