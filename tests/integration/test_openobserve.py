"""Both services against a stand-in for OpenObserve: their traces read back and drawn, dashboard and alert set up."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.tools.openobserve.alert import alert
from shared.tools.openobserve.dashboard import FAILED_SPANS, PANELS
from tests.browser.embedded_receiver import running as embedded_receiver
from tests.openobserve import PASSWORD, USER, openobserve
from tests.openobserve_store import OpenObserveStandIn
from tests.system import System, new_id
from tests.waiting import eventually

ORDERS = str(Path(sys.executable).with_name("orders"))


@pytest.fixture
def backend() -> Iterator[OpenObserveStandIn]:
    """Asked for before the system, so that it outlives the services, which would wait for it at their end."""
    with openobserve() as standin:
        yield standin


def _orders(url: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENOBSERVE_", "ALERT_"))
    }
    credentials = {"OPENOBSERVE_URL": url, "OPENOBSERVE_USER": USER, "OPENOBSERVE_PASSWORD": PASSWORD}
    return subprocess.run(
        [ORDERS, *words],
        env={**plain, **credentials, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _set_up(backend: OpenObserveStandIn, *words: str) -> dict[str, str]:
    done = _orders(backend.url, "observe", "setup", "--json", *words)
    assert done.returncode == 0, done.stderr
    return {step["what"]: step["done"] for step in json.loads(done.stdout)["steps"]}


def _range(sql: str) -> dict[str, object]:
    now_us = time.time_ns() // 1000
    return {"sql": sql, "start_time": now_us - 3600_000_000, "end_time": now_us + 1, "from": 0, "size": 100}


def test_an_orders_trace_is_read_back_and_drawn_with_its_links(backend: OpenObserveStandIn, system: System) -> None:
    system.start_worker(OPENOBSERVE_URL=backend.url).wait_until_ready()
    api = system.start_api(OPENOBSERVE_URL=backend.url)
    api.service.wait_until_ready()
    order = api.submit({"widget": 1}, new_id()).json()
    eventually(lambda: len([row for row in backend.rows if order["trace_id"] in row["links"]]) >= 5, what="its commits")

    drawn = _orders(backend.url, "trace", order["order_id"], ORDER_API_URL=api.service.url)
    as_json = _orders(backend.url, "trace", order["order_id"], "--json", ORDER_API_URL=api.service.url)

    assert drawn.returncode == 0, drawn.stderr
    lines = drawn.stdout.splitlines()
    names = ("POST /orders", "send orders:inventory.check", "process orders:inventory.check")
    assert all(any(name in line for line in lines) for name in names), drawn.stdout
    assert any("reply → process order-api.replies" in line for line in lines)
    assert "linked from other traces" in drawn.stdout
    assert "batch_member → POST /orders" in drawn.stdout
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


def test_every_panel_asks_for_what_the_services_report(backend: OpenObserveStandIn, system: System) -> None:
    fast = {"OPENOBSERVE_URL": backend.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
    system.start_worker(**fast).wait_until_ready()
    api = system.start_api(**fast)
    api.service.wait_until_ready()
    for quantity in (1, 900_000_000):
        api.submit({"widget": quantity}, new_id())
    eventually(lambda: {"orders_decided", "orders_settled"} <= backend.metrics.keys(), what="the metrics of an order")
    # Recorded only when something goes wrong.
    at_trouble = {"orders_redelivered", "orders_asked_again"}

    for promql in (query for panel in PANELS for query in panel.queries.values()):
        (name,) = re.findall(r"\b\w+(?=[{\[])", promql)
        if name not in at_trouble:
            streams = eventually(lambda name=name: backend.metrics.get(name), what=name)  # type: ignore[misc]
            asked = {label for group in re.findall(r"by \(([^)]*)\)", promql) for label in re.split(r",\s*", group)}
            for label, operator, value in re.findall(r'(\w+)(!?=)"([^"]*)"', promql):
                assert operator == "!=" or value == "error" or value in streams[label], (promql, streams)
                asked.add(label)
            assert asked <= streams.keys(), (promql, streams.keys())
    eventually(lambda: backend.rows, what="the first spans")
    assert backend.search(_range(FAILED_SPANS)) == []


def test_a_second_setup_changes_nothing_and_a_changed_dashboard_is_repaired(backend: OpenObserveStandIn) -> None:
    first = _set_up(backend)
    writes = list(backend.writes)
    second = _set_up(backend)
    (stored,) = backend.dashboards.values()
    stored["v8"]["tabs"][0]["panels"].pop()
    (alarm,) = backend.alerts.values()
    alarm |= {"enabled": False, "query_condition": {"type": "sql", "sql": "SELECT 1 AS one"}}
    third = _set_up(backend)

    assert set(first.values()) == {"created"}
    assert set(second.values()) == {"unchanged"}
    assert writes == ["POST dashboards", "POST templates", "POST destinations", "POST alerts"]
    assert (third["dashboard"], third["alert"]) == ("updated", "updated")
    assert backend.writes == [*writes, "PUT dashboards", "PUT alerts"]
    (repaired,) = backend.dashboards.values()
    assert len(repaired["v8"]["tabs"][0]["panels"]) == len(PANELS) + 1
    (alarm,) = backend.alerts.values()
    assert (alarm["enabled"], alarm["query_condition"]) == (False, alert()["query_condition"])
    assert [row["operation_name"] for row in backend.rows] == ["observe setup"]


def test_the_alert_sees_a_service_that_fails_more_than_one_in_twenty(backend: OpenObserveStandIn) -> None:
    now_us = time.time_ns() // 1000

    def span(service: str, status: str) -> dict[str, object]:
        return {"_timestamp": now_us, "service_name": service, "span_kind": "2", "span_status": status}

    backend.rows += [span("order-api", "ERROR"), *[span("order-api", "UNSET")] * 18]
    backend.rows += [span("inventory-worker", "ERROR"), *[span("inventory-worker", "UNSET")] * 19]

    (firing,) = backend.search(_range(alert()["query_condition"]["sql"]) | {"end_time": now_us + 1})

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
    assert (steps["destination"], steps["alert"]) == ("created", "created")
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
            "is not an address": [_orders("http://[::1", *setup)],
            "Say where OpenObserve is": [_orders("", *setup)],
        }

    for sentence, all_done in failures.items():
        for done in all_done:
            assert (done.returncode, sentence in done.stderr) == (1, True), (sentence, done.args, done.stderr)
            assert len(done.stderr.splitlines()) == 1, done.stderr
