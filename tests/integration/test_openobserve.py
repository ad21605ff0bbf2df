"""Both services against a stand-in for OpenObserve: their traces read back and drawn, dashboard and alert set up."""

import json
import re
import subprocess
import sys
import time
from collections.abc import ItemsView, Iterable, Iterator
from pathlib import Path

import aio_pika
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.contract import topology
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import semconv
from shared.tools.openobserve.alerts import ALERTS
from shared.tools.openobserve.client import ObserveError, OpenObserve
from shared.tools.openobserve.dashboard import CHARTS, TABLES, dashboard
from shared.tools.openobserve.reader import span_from_row
from tests.browser.embedded_receiver import running as embedded_receiver
from tests.environment import plain_environment
from tests.openobserve import PASSWORD, USER, openobserve
from tests.openobserve_dashboards import complaints
from tests.openobserve_store import OpenObserveStandIn
from tests.system import System, VirtualHost, new_id
from tests.waiting import eventually

ORDERS = str(Path(sys.executable).with_name("orders"))


@pytest.fixture
def backend() -> Iterator[OpenObserveStandIn]:
    """Asked for before the system, so that it outlives the services, which would wait for it at their end."""
    with openobserve() as standin:
        yield standin


def _orders(url: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    credentials = {"OPENOBSERVE_URL": url, "OPENOBSERVE_USER": USER, "OPENOBSERVE_PASSWORD": PASSWORD}
    return subprocess.run(
        [ORDERS, *words],
        env=plain_environment(COLUMNS="120") | credentials | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _set_up(backend: OpenObserveStandIn, *words: str) -> dict[str, str]:
    done = _orders(backend.url, "observe", "setup", "--json", *words)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    return {step["name"] if step["what"] == "alert" else step["what"]: step["done"] for step in steps}


def _range(sql: str) -> dict[str, object]:
    now_us = time.time_ns() // 1000
    return {"sql": sql, "start_time": now_us - 3600_000_000, "end_time": now_us + 1, "from": 0, "size": 100}


def test_an_orders_trace_is_read_back_and_drawn_with_its_links(backend: OpenObserveStandIn, system: System) -> None:
    system.start_worker(OPENOBSERVE_URL=backend.url).wait_until_ready()
    api = system.start_api(OPENOBSERVE_URL=backend.url)
    api.service.wait_until_ready()
    order = api.submit({"widget": 1}, new_id()).json()
    names = ("POST /orders", "commit orders", "process orders:inventory.check", "commit reservations")
    eventually(
        lambda: set(names) <= {row["operation_name"] for row in backend.rows if order["trace_id"] in str(row.values())},
        what="its spans",
    )

    drawn = _orders(backend.url, "trace", order["order_id"], ORDER_API_URL=api.service.url)
    as_json = _orders(backend.url, "trace", order["order_id"], "--json", ORDER_API_URL=api.service.url)

    assert drawn.returncode == 0, drawn.stderr
    lines = drawn.stdout.splitlines()
    assert all(any(name in line for line in lines) for name in names), drawn.stdout
    assert any("reply → process order-api.replies" in line for line in lines)
    assert f"trace_id={order['trace_id']}" in lines[-1]
    read = json.loads(as_json.stdout)
    process = next(span for span in read["spans"] if span["name"] == "process orders:inventory.check")
    assert (process["kind"], process["service"]) == ("CONSUMER", "inventory-worker")
    assert process["attributes"]["delivery.attempt"] == 1
    assert process["attributes"]["delivery.redelivered"] is False
    assert isinstance(process["attributes"]["delivery.queue_wait_ms"], float)
    assert process["resource"]["deployment.environment.name"] == "local"
    assert order["trace_url"].startswith(
        f"{backend.url}/web/traces/trace-details?stream=default&trace_id={order['trace_id']}"
    )


async def test_one_order_one_failure_and_one_dead_letter_each_show_as_one_on_their_panels(
    backend: OpenObserveStandIn, system: System, virtual_host: VirtualHost
) -> None:
    fast = _fast(backend, virtual_host)
    system.start_worker(**fast).wait_until_ready()
    api = system.start_api(**fast)
    api.service.wait_until_ready()
    began = {name for name in backend.streams("metrics") if name.startswith("orders_")}

    order_id = new_id()
    api.submit({"widget": 1}, order_id)
    api.submit({"no-such-thing": 1}, new_id())
    await _publish_poison(virtual_host)

    expected = {
        "orders": {"success": True, "error": True, "out_of_stock": False},
        "errors": {"unknown_sku": True, "malformed": True, "dead_letter": False},
        "retries": {"dead_letter": True, "retry": False},
        "ready": {topology.DEAD_LETTERS: True, topology.INVENTORY_CHECK: False},
        "consumers": {topology.INVENTORY_CHECK: True},
        "end-to-end": {"": True},
        "requests": {"": True},
        "queue-wait": {"": True},
        "processing": {"": True},
    }
    for id_, shown in expected.items():
        panel = next(panel for panel in CHARTS if panel.id == id_)
        eventually(lambda panel=panel, shown=shown: _shown(backend, panel.queries.values()) >= shown.items(), what=id_)  # type: ignore[misc]
    assert {"orders_decided", "orders_settled", "orders_end_to_end_bucket"} <= began, (
        "known series start before an order"
    )
    (increase,) = [
        query for panel in CHARTS if panel.id == "errors" for query in panel.queries.values() if "decided" in query
    ]
    assert backend.evaluate(increase)["unknown_sku"] == 1


def _fast(backend: OpenObserveStandIn, virtual_host: VirtualHost) -> dict[str, str]:
    management_url = str(virtual_host.api.base_url).removesuffix("/api/")
    return {
        "OPENOBSERVE_URL": backend.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "RABBITMQ_MANAGEMENT_URL": management_url,
    }


def _shown(backend: OpenObserveStandIn, queries: Iterable[str]) -> ItemsView[str, bool]:
    """Which series of a panel are above 0."""
    found: dict[str, bool] = {}
    for query in queries:
        found |= {labels: value > 0 for labels, value in backend.evaluate(query).items()}
    return found.items()


async def _publish_poison(virtual_host: VirtualHost) -> None:
    async with await aio_pika.connect(virtual_host.amqp_url) as connection, connection.channel() as channel:
        poison = aio_pika.Message(b"no check", type="inventory.check.v1", correlation_id=new_id())
        await channel.default_exchange.publish(poison, topology.INVENTORY_CHECK)


def test_every_panel_has_a_query_that_runs_and_every_table_leads_to_its_trace(
    backend: OpenObserveStandIn, system: System, virtual_host: VirtualHost
) -> None:
    fast = _fast(backend, virtual_host)
    system.start_worker(**fast).wait_until_ready()
    api = system.start_api(**fast)
    api.service.wait_until_ready()
    order_id = new_id()
    api.submit({"widget": 1}, order_id)
    api.submit({"widget": 1}, order_id)
    eventually(lambda: len([row for row in backend.rows if "order_id" in row]) >= 4, what="the spans of the order")
    eventually(
        lambda: "orders_pending" in backend.samples and "orders_queue_ready" in backend.samples, what="the queues"
    )

    # The broker tells this of classic queues with a message in line only.
    silent = {"orders_queue_oldest"}
    for promql in (query for panel in CHARTS for query in panel.queries.values()):
        (name,) = re.findall(r"\b\w+(?=[{\[])|(?<=\()orders_\w+(?=\))", promql)
        if name not in silent:
            eventually(lambda name=name: name in backend.samples, what=name)  # type: ignore[misc]
            backend.evaluate(promql)
    rows = {
        table.id: backend.search(_range(table.sql.replace("$order_id", order_id)), table.stream_type)
        for table in TABLES
        if table.stream_type == "traces"
    }
    assert all(set(row) <= set(table.columns) for table in TABLES for row in rows.get(table.id, []))
    assert [row["order_id"] for row in rows["slowest-orders"]] == [order_id, order_id]
    assert rows["failed-spans"] == []
    reasons = " ".join(row["links_to"] for row in rows["order-spans"])
    assert {"creation_context", "reply", "duplicate_of"} <= set(reasons.split())
    starts = [row["start_time"] for row in rows["order-spans"]]
    assert starts == sorted(starts)
    assert all("trace_id" in table.columns for table in TABLES)
    drilldowns = [
        panel["config"]["drilldown"][0]["data"]["url"]
        for tab in dashboard("acme")["tabs"]
        for panel in tab["panels"]
        if panel["type"] == "table"
    ]
    assert len(drilldowns) == len(TABLES)
    assert all('${row.field["trace_id"]}' in url and url.endswith("org_identifier=acme") for url in drilldowns)


def test_the_dashboard_is_what_openobserve_can_show() -> None:
    found = dashboard("default")

    # The server itself stores whatever deserializes.
    assert complaints(found) == []
    for panel in CHARTS:
        assert len(set(panel.colours.values())) == len(panel.colours) or panel.id == "connections", panel.id
        assert "(" in panel.title or panel.unit in ("consumers", "orders"), panel.title


def test_a_second_setup_changes_nothing_and_a_changed_dashboard_is_repaired(backend: OpenObserveStandIn) -> None:
    first = _set_up(backend)
    writes = list(backend.writes)
    second = _set_up(backend)
    (stored,) = backend.dashboards.values()
    stored["v8"]["tabs"][0]["panels"].pop()
    alarm = next(iter(backend.alerts.values()))
    alarm |= {"enabled": False, "query_condition": {"type": "sql", "sql": "SELECT 1 AS one"}}
    third = _set_up(backend)

    assert set(first.values()) == {"created"}
    assert set(second.values()) == {"unchanged"}
    assert writes == ["POST dashboards", "POST templates", "POST destinations", *["POST alerts"] * len(ALERTS)]
    assert (third["dashboard"], third[ALERTS[0].name]) == ("updated", "updated")
    assert backend.writes == [*writes, "PUT dashboards", "PUT alerts"]
    (repaired,) = backend.dashboards.values()
    assert repaired["v8"]["tabs"] == dashboard("default")["tabs"]
    alarm = next(iter(backend.alerts.values()))
    assert (alarm["enabled"], alarm["query_condition"]) == (False, ALERTS[0].as_stored()["query_condition"])
    assert [row["operation_name"] for row in backend.rows] == ["observe setup"]


def test_the_alert_sees_a_service_that_fails_more_than_one_in_twenty(backend: OpenObserveStandIn) -> None:
    now_us = time.time_ns() // 1000

    def span(service: str, status: str) -> dict[str, object]:
        return {"_timestamp": now_us, "service_name": service, "span_kind": "2", "span_status": status}

    backend.rows += [span("order-api", "ERROR"), *[span("order-api", "UNSET")] * 18]
    backend.rows += [span("inventory-worker", "ERROR"), *[span("inventory-worker", "UNSET")] * 19]

    (firing,) = backend.search(_range(ALERTS[0].sql) | {"end_time": now_us + 1})

    assert firing == {"service_name": "order-api", "handled": 19, "failed": 1}


def test_without_a_webhook_a_guarded_openobserve_gets_no_alert_and_with_one_it_does() -> None:
    with openobserve(allow_loopback=False) as backend:
        without = _orders(backend.url, "observe", "setup")
        steps = _set_up(backend, "--webhook", "https://chat.example.com/hook")
        kept = _set_up(backend)

    assert without.returncode == 0
    assert "skipped" in without.stdout
    assert "--webhook" in without.stdout
    assert f"{backend.url}/web/dashboards/view?org_identifier=default&dashboard=" in without.stdout
    assert {steps["destination"], *(steps[alert.name] for alert in ALERTS)} == {"created"}
    assert set(kept.values()) == {"unchanged"}
    assert backend.destinations["traced-orders"]["url"] == "https://chat.example.com/hook"


def test_each_failure_is_one_sentence_and_exit_code_1(backend: OpenObserveStandIn, system: System) -> None:
    api = system.start_api(OPENOBSERVE_URL=backend.url, REPLY_TIMEOUT="0.1")
    api.service.wait_until_ready()
    order_id = api.submit({"widget": 1}, new_id()).json()["order_id"]
    nobody, setup, trace = "http://127.0.0.1:1", ("observe", "setup", "--wait", "0.2"), ("trace", order_id)
    at_api = {"ORDER_API_URL": api.service.url}
    with embedded_receiver() as embedded:
        failures = {
            "refuses the user or password": [
                _orders(backend.url, *setup, OPENOBSERVE_PASSWORD="wrong"),
                _orders(backend.url, *trace, OPENOBSERVE_PASSWORD="wrong", **at_api),
                _orders(embedded, *trace, OPENOBSERVE_PASSWORD="wrong", **at_api),
            ],
            "is not OpenObserve": [_orders(api.service.url, *setup), _orders(api.service.url, *trace, **at_api)],
            f"There is no OpenObserve at {nobody}": [_orders(nobody, *setup), _orders(nobody, *trace, **at_api)],
            "is the embedded receiver": [_orders(embedded, *setup)],
            "Say where OpenObserve is": [_orders("", *setup)],
        }

    misread = _orders("http://[::1", *setup)
    assert (misread.returncode, misread.stderr.count("\n")) == (2, 1), "a setting that is none"
    assert "OPENOBSERVE_URL" in misread.stderr

    for sentence, all_done in failures.items():
        for done in all_done:
            assert (done.returncode, sentence in done.stderr) == (1, True), (sentence, done.args, done.stderr)
            assert len(done.stderr.splitlines()) == 1, done.stderr


def test_an_organization_that_does_not_exist_yet_is_said_to_be_so_and_setup_makes_it(
    backend: OpenObserveStandIn,
) -> None:
    headers = TelemetrySettings.model_validate({"openobserve_user": USER, "openobserve_password": PASSWORD})
    with OpenObserve(backend.url, "acme", headers.openobserve_headers) as client:
        with pytest.raises(ObserveError, match="has no organization 'acme'") as refused:
            client.call("GET", "dashboards")
        assert refused.value.code == 404
    with (
        OpenObserve(backend.url, "default", headers.openobserve_headers) as client,
        pytest.raises(ObserveError, match=r"answered 422 to .*_search: Failed to deserialize"),
    ):
        client.call("POST", "_search", {"nothing": 1}, type="traces")

    done = _orders(backend.url, "observe", "setup", "--json", OPENOBSERVE_ORG="acme")

    assert done.returncode == 0, done.stderr
    assert "org_identifier=acme" in json.loads(done.stdout)["dashboard_url"]


def test_setup_hands_out_a_token_that_may_send_and_nothing_else(backend: OpenObserveStandIn, tmp_path: Path) -> None:
    token = tmp_path / "token"

    done = _orders(backend.url, "observe", "setup", "--token-file", str(token))

    assert done.returncode == 0, done.stderr
    sending = TelemetrySettings.model_validate({"openobserve_user": USER, "openobserve_password_file": token})
    with OpenObserve(backend.url, "default", sending.openobserve_headers) as client:
        client.ingest("traces", b"")
        with pytest.raises(ObserveError, match="refuses the user or password"):
            client.call("GET", "dashboards")


def test_the_call_of_the_troubleshooting_page_reads_back_what_was_sent(backend: OpenObserveStandIn) -> None:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    of_resource.scope_spans.add().spans.add(
        trace_id=b"t" * 16, span_id=b"s" * 8, name="GET", start_time_unix_nano=time.time_ns() - 10**9
    )
    headers = TelemetrySettings.model_validate({"openobserve_user": USER, "openobserve_password": PASSWORD})
    with OpenObserve(backend.url, "default", headers.openobserve_headers) as client:
        client.ingest("traces", request.SerializeToString())
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
    (call,) = re.findall(r"^ +```\n( +curl .*?_search.*?)^ +```$", page, re.MULTILINE | re.DOTALL)
    login = {"OPENOBSERVE_URL": backend.url, "OPENOBSERVE_USER": USER, "OPENOBSERVE_PASSWORD": PASSWORD}

    done = subprocess.run(
        ["sh", "-c", call], env=plain_environment() | login, capture_output=True, text=True, timeout=60
    )

    assert [hit["operation_name"] for hit in json.loads(done.stdout)["hits"]] == ["GET"]


def test_the_stand_in_stores_as_openobserve_does(backend: OpenObserveStandIn) -> None:
    headers = TelemetrySettings.model_validate({"openobserve_user": USER, "openobserve_password": PASSWORD})
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    now = time.time_ns()
    for number, start in enumerate((now, now - 6 * 3600 * 10**9, now + 25 * 3600 * 10**9), 1):
        span = of_resource.scope_spans.add().spans.add(
            trace_id=b"t" * 16, span_id=bytes([number] * 8), name="GET", kind=3, start_time_unix_nano=start
        )
        span.attributes.add(key="delivery.queue_wait_ms").value.double_value = 5.0
        span.attributes.add(key="peer.service").value.string_value = "stock"
        span.attributes.add(key="many").value.array_value.values.add().int_value = 1
        span.attributes.add(key="none").value.array_value.SetInParent()

    with OpenObserve(backend.url, "default", headers.openobserve_headers) as client:
        client.ingest("traces", request.SerializeToString())
        refusals = {}
        for sql in ('SELECT FROM "default" WHERE', 'SELECT missing FROM "default"', 'SELECT missing(1) FROM "default"'):
            with pytest.raises(ObserveError) as refused:
                client.search(sql, 0, now // 1000 + 1, 10)
            refusals[sql] = refused.value.code

    (row,) = backend.rows
    assert (row["delivery_queue_wait_ms"], row["many"], "none" in row) == ("5", '["1"]', False)
    assert (row["infer_service_name"], row["infer_service_type"]) == ("stock", "external")
    assert span_from_row(row).attributes[semconv.DELIVERY_QUEUE_WAIT_MS] == 5.0
    assert "infer_service_name" not in span_from_row(row).attributes
    assert list(refusals.values()) == [20001, 20004, 20008]
