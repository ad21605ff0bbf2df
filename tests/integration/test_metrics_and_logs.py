"""The other two signals: metrics of bounded cardinality under their standard names, and logs that know their trace."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aio_pika
import httpx
import pytest
from opentelemetry.test._otlp_test_server import OtlpProtoTestServer

from shared.contract.messages import DECISION_TYPE, InventoryDecision, OrderStatus
from tests.system import Api, System, VirtualHost, new_id, order_body
from tests.telemetry_names import conventional, own_attributes, own_events, own_metrics
from tests.waiting import eventually

MESSAGING_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
EXPECTED = {
    "messaging.client.operation.duration": "s",
    "messaging.process.duration": "s",
    "messaging.client.sent.messages": "{message}",
    "messaging.client.consumed.messages": "{message}",
    "http.server.request.duration": "s",
    "orders.queue_wait": "s",
    "orders.reply_wait": "s",
    "orders.placed": "{order}",
    "orders.decided": "{order}",
    "orders.replies": "{message}",
    "orders.settled": "{message}",
    "orders.commit.batch_size": "{write}",
    "orders.waiting": "{request}",
    "orders.spans.lost": "{span}",
}


class Signals:
    """A receiver for metrics and logs that keeps every series and record it has seen."""

    def __init__(self, server: OtlpProtoTestServer) -> None:
        self._server = server
        self.series: dict[tuple[str, str, frozenset[tuple[str, str]]], Any] = {}
        self.metrics: dict[str, Any] = {}
        self.logs: list[Any] = []

    def read(self) -> "Signals":
        """Take in what has arrived."""
        for new in self._server.drain_metrics():
            self.metrics[new.metric.name] = new.metric
            service = _texts(new.resource.attributes)["service.name"]
            for point in getattr(new.metric, new.metric.WhichOneof("data") or "gauge").data_points:
                self.series[new.metric.name, service, frozenset(_texts(point.attributes).items())] = point
        self.logs += self._server.drain_log_records()
        return self


@pytest.fixture
def signals() -> Iterator[Signals]:
    with OtlpProtoTestServer(base_path="/api/default") as server:
        yield Signals(server)


@pytest.fixture
def environment(signals: Signals) -> dict[str, str]:
    base = f"http://127.0.0.1:{signals._server.port}/api/default/v1"
    return {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{base}/metrics",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{base}/logs",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
    }


@pytest.fixture
def api(system: System, environment: dict[str, str]) -> Api:
    system.start_worker(**environment).wait_until_ready()
    started = system.start_api(**environment, REPLY_TIMEOUT="30")
    started.service.wait_until_ready()
    return started


def test_a_thousand_orders_make_no_more_series_than_a_hundred(api: Api, signals: Signals) -> None:
    asyncio.run(_place(api, 100))
    eventually(
        lambda: any(name == "orders.queue.ready" for name, _, _ in signals.read().series),
        within=30,
        what="the first look at the queues",
    )
    before = _settled_series(signals, orders=100)

    asyncio.run(_place(api, 900))
    after = _settled_series(signals, orders=1000)

    assert after == before
    assert len(after) < 200


def test_the_metrics_have_their_standard_names_units_and_buckets(api: Api, signals: Signals) -> None:
    asyncio.run(_place(api, 20))
    _settled_series(signals, orders=20)

    found = {name: metric.unit for name, metric in signals.metrics.items()}

    assert {name: found.get(name) for name in EXPECTED} == EXPECTED
    for name in ("messaging.client.operation.duration", "messaging.process.duration"):
        for (named, _, _), point in signals.series.items():
            if named == name:
                assert list(point.explicit_bounds) == MESSAGING_BUCKETS
    assert all(metric.description for metric in signals.metrics.values())
    assert any(point.exemplars for point in signals.series.values() if hasattr(point, "exemplars"))


def test_exponential_histograms_are_one_standard_variable_away(
    system: System, environment: dict[str, str], signals: Signals
) -> None:
    aggregation = {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram"}
    api = system.start_api(**environment, **aggregation)
    api.service.wait_until_ready()

    assert api.http.get(f"/orders/{new_id()}").status_code == 404

    found = eventually(lambda: signals.read().metrics.get("http.server.request.duration"), what="the duration")
    assert found.WhichOneof("data") == "exponential_histogram"


async def test_a_log_record_knows_the_trace_it_was_written_in(
    api: Api, signals: Signals, virtual_host: VirtualHost, system: System
) -> None:
    decision = InventoryDecision(order_id=new_id(), status=OrderStatus.SUCCESS)
    reply = aio_pika.Message(decision.encode(), type=DECISION_TYPE, correlation_id=decision.order_id)

    connection = await aio_pika.connect(virtual_host.amqp_url)
    async with connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(reply, "order-api.replies.shared")
    warning = eventually(
        lambda: next(
            (each for each in signals.read().logs if "not known here" in each.log_record.body.string_value), None
        ),
        what="the warning about a reply for nobody's order",
    ).log_record

    span = eventually(
        lambda: next((each for each in system.receiver.spans() if each.span_id == warning.span_id.hex()), None),
        what="the span that the warning was written in",
    )
    assert (span.name, span.trace_id) == ("process order-api.replies.shared", warning.trace_id.hex())
    assert warning.severity_text == "WARNING"


def test_an_ordinary_order_is_one_line_of_each_service_with_its_trace_and_its_id(api: Api, signals: Signals) -> None:
    order_id = new_id()

    answer = api.submit({"widget": 1}, order_id)

    def lines() -> list[Any]:
        return [each for each in signals.read().logs if _texts(each.log_record.attributes).get("order_id") == order_id]

    eventually(lambda: len(lines()) >= 2, what="a line of each service")
    said = {each.log_record.body.string_value for each in lines()}
    assert said == {"an order is decided: success", "a check is settled: ack"}
    assert {each.log_record.trace_id.hex() for each in lines()} == {answer.headers["x-trace-id"]}
    assert all(any(each.log_record.span_id) for each in lines())


@pytest.mark.parametrize(("level", "expected"), [("WARNING", 0), ("DEBUG", 3)])
def test_the_level_decides_whether_there_is_no_line_or_one_a_step(
    system: System, environment: dict[str, str], level: str, expected: int
) -> None:
    worker = system.start_worker(**environment, LOG_LEVEL=level).wait_until_ready()
    api = system.start_api(**environment, LOG_LEVEL=level, REPLY_TIMEOUT="30")
    api.service.wait_until_ready()
    order_id = new_id()

    assert api.submit({"widget": 1}, order_id).status_code == 201
    assert (api.service.end(), worker.end()) == (0, 0)

    for service in (api.service, worker):
        assert service.log.count(order_id) >= expected
        assert expected or order_id not in service.log


def test_every_name_that_is_exported_is_of_the_conventions_or_in_a_registry(
    api: Api, signals: Signals, system: System
) -> None:
    asyncio.run(_place(api, 20))
    _settled_series(signals, orders=20)
    spans = system.receiver.spans()

    attributes = {name for span in spans for name in (*span.attributes, *span.resource)}
    attributes |= {name for span in spans for link in span.links for name in link.attributes}
    attributes |= {name for span in spans for event in span.events for name in event.attributes}
    attributes |= {name for _, _, series in signals.series for name, _ in series}
    units = {name: metric.unit for name, metric in signals.metrics.items()}

    assert spans
    assert attributes <= own_attributes() | conventional()
    assert units.keys() <= own_metrics().keys() | conventional()
    assert {name: unit for name, unit in units.items() if name in own_metrics()}.items() <= own_metrics().items()
    assert {event.name for span in spans for event in span.events} <= own_events() | {"exception"}


def _settled_series(signals: Signals, orders: int) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    """Wait until the metrics of both services have caught up with so many orders, and give their series."""

    def counted(metric: str) -> int:
        return sum(point.as_int for (name, _, _), point in signals.series.items() if name == metric)

    def caught_up() -> bool:
        signals.read()
        # The order API counts the one, the worker the other; each sends all that it has at once.
        return min(counted("orders.decided"), counted("orders.settled")) >= orders

    eventually(caught_up, within=30, what=f"metrics of {orders} orders")
    return set(signals.series)


async def _place(api: Api, count: int) -> None:
    limit = asyncio.Semaphore(50)

    async def place(client: httpx.AsyncClient) -> None:
        async with limit:
            answer = await client.post("/orders", json=order_body({"widget": 1}, new_id()))
            assert answer.status_code == 201

    async with httpx.AsyncClient(base_url=api.service.url, timeout=60, trust_env=False) as client:
        await asyncio.gather(*(place(client) for _ in range(count)))


def _texts(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value or str(each.value) for each in attributes}
