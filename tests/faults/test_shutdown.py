"""The end of a service, whatever is going on at that moment: in time, with exit code 0, and with no accepted order lost."""

import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest

from shared.tools.local.probe import status_of
from tests.faults.load import Load, load_on
from tests.faults.proxied_broker import proxied
from tests.receiver import is_commit
from tests.sqlite_lock import locked
from tests.system import Api, Service, System, VirtualHost, new_id, stock_levels
from tests.waiting import eventually

CLIENTS = 20
WAITING = 50
LONGEST_END = 45
"""Seconds: the grace for open requests, the drain, the close and the flush, one after the other, each at its limit."""

WHOLE_TRACE = {
    "POST /orders",
    "send orders:inventory.check",
    "process orders:inventory.check",
    "send order-api.replies.{instance}",
    "process order-api.replies.{instance}",
}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_ended_under_load_both_services_finish_what_they_took_and_export_it(
    system: System, ending: signal.Signals
) -> None:
    """Each process gets its signal while 20 clients place orders. Spans are exported at the end only: what arrives shows
    that the end has flushed them."""
    worker = system.start_worker(OTEL_BSP_SCHEDULE_DELAY="120000").wait_until_ready()
    api = system.start_api(OTEL_BSP_SCHEDULE_DELAY="120000")
    api.service.wait_until_ready()

    with load_on(api, CLIENTS) as load:
        eventually(lambda: len(load.answers) > 100, within=60, what="load")
        api.service.signal(ending)
        _wait_for_end(api.service)
        worker.signal(ending)
        _wait_for_end(worker)

    assert (api.service.exit_status, worker.exit_status) == (0, 0)
    assert not load.refused
    _assert_nothing_lost(system, load)
    decided = {each.headers["x-trace-id"] for each in load.answers.values() if each.status_code == 201}
    assert len(decided) > 90
    traces: dict[str, set[str]] = {trace_id: set() for trace_id in decided}
    for span in system.receiver.spans():
        if not is_commit(span):
            traces.get(span.trace_id, set()).add(span.name)
    assert [names for names in traces.values() if names != WHOLE_TRACE] == []


def test_the_worker_ended_under_load_leaves_the_rest_to_the_next_one(system: System) -> None:
    """SIGTERM to the worker, with the checks of 20 clients in its hands and in the queue, and a second one right after, as an
    impatient operator or supervisor sends it."""
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="1")
    api.service.wait_until_ready()

    with load_on(api, CLIENTS) as load:
        eventually(lambda: len(load.answers) > 100, within=60, what="load")
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGTERM)
        _wait_for_end(worker)
        before = len(load.answers)
        eventually(lambda: len(load.answers) > before + CLIENTS, within=60, what="orders without a worker")
        successor = system.start_worker().wait_until_ready()

    outcomes = {api.wait_for_outcome(order_id, within=60)["status"] for order_id in load.accepted}
    assert worker.exit_status == 0
    assert not load.refused
    assert not load.unanswered
    assert outcomes == {"success"}
    assert stock_levels(successor)["widget"] == 1_000_000 - len(load.accepted)


def test_sigterm_answers_50_requests_that_would_wait_for_two_minutes(system: System) -> None:
    """The worker is paused, so no reply comes; each order is stored and asked for. Orders must not be told to be lost, and an
    orchestrator does not wait for two minutes."""
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="120")
    api.service.wait_until_ready()
    with ThreadPoolExecutor(WAITING) as pool:
        with worker.paused():
            requests = [pool.submit(httpx.post, **_placing(api)) for _ in range(WAITING)]
            eventually(lambda: _stored(system) == WAITING, within=60, what=f"{WAITING} stored orders")

            api.service.signal(signal.SIGTERM)
            began = time.monotonic()
            answers = [request.result(60) for request in requests]
            _wait_for_end(api.service)

        assert time.monotonic() - began < 10
    assert [answer.status_code for answer in answers] == [202] * WAITING
    assert {answer.json()["status"] for answer in answers} == {"pending"}
    assert all(answer.headers["location"] == f"/orders/{answer.json()['order_id']}" for answer in answers)
    assert api.service.exit_status == 0
    worker.end()
    _assert_all_decided(system, WAITING)


def test_replies_that_are_on_their_way_at_sigterm_still_arrive(system: System) -> None:
    """The worker is held up for a moment, and goes on before the API loses its patience."""
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="120")
    api.service.wait_until_ready()
    with ThreadPoolExecutor(WAITING) as pool:
        with worker.paused():
            requests = [pool.submit(httpx.post, **_placing(api)) for _ in range(WAITING)]
            eventually(lambda: _stored(system) == WAITING, within=60, what=f"{WAITING} stored orders")
            api.service.signal(signal.SIGTERM)
        answers = [request.result(60) for request in requests]
    _wait_for_end(api.service)

    # Not all of them on a machine that is busy; without patience it would be none.
    assert {answer.status_code for answer in answers} <= {201, 202}
    assert 201 in {answer.status_code for answer in answers}
    assert api.service.exit_status == 0


def test_a_second_sigterm_does_not_cut_open_requests_off(system: System) -> None:
    """Two requests wait for replies that will not come, there is no worker, when SIGTERM arrives, and again a moment later."""
    api = system.start_api(REPLY_TIMEOUT="60")
    api.service.wait_until_ready()
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(httpx.post, **_placing(api)) for _ in range(2)]
        eventually(lambda: _stored(system) == 2, what="two stored orders")

        api.service.signal(signal.SIGTERM)
        eventually(lambda: _refuses(api), what="no new connections")
        api.service.signal(signal.SIGTERM)
        _wait_for_end(api.service)

        assert [request.result(10).status_code for request in requests] == [202, 202]
        assert api.service.exit_status == 0
    _assert_all_decided(system, 2)


def test_a_second_sigint_ends_at_once_and_still_loses_no_order(system: System) -> None:
    """Ctrl-C while a request waits for its reply for up to a minute, and Ctrl-C again: that means now."""
    api = system.start_api(REPLY_TIMEOUT="60")
    api.service.wait_until_ready()
    with ThreadPoolExecutor() as pool:
        request = pool.submit(httpx.post, **_placing(api))
        eventually(lambda: _stored(system) == 1, what="the stored order")

        api.service.signal(signal.SIGINT)
        eventually(lambda: _refuses(api), what="no new connections")
        api.service.signal(signal.SIGINT)
        began = time.monotonic()
        _wait_for_end(api.service)

        assert time.monotonic() - began < 12, "without the grace for open requests"
        assert api.service.exit_status == 0
        # Cut off, or told the truth where the second Ctrl-C came after the patience of the first.
        assert isinstance(request.exception(10), httpx.HTTPError) or request.result().status_code in {202, 500}
    with closing(sqlite3.connect(system.directory / "orders.db")) as database, database:
        # So long a reply timeout puts the relay off as well, which this test does not want to wait for.
        database.execute("UPDATE orders SET ask_at = 0")
    _assert_all_decided(system, 1)


def test_a_backend_that_accepts_and_never_answers_holds_no_end_up(system: System) -> None:
    """The kernel accepts the connections of the exporters, and nobody ever reads from them."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        worker = system.start_worker(OPENOBSERVE_URL=url).wait_until_ready()
        api = system.start_api(OPENOBSERVE_URL=url)
        api.service.wait_until_ready()

        with load_on(api, CLIENTS) as load:
            eventually(lambda: len(load.answers) > 100, within=60, what="load")
            for service in (api.service, worker):
                service.signal(signal.SIGTERM)
            for service in (api.service, worker):
                _wait_for_end(service)

        assert (api.service.exit_status, worker.exit_status) == (0, 0)
        assert "has not taken the last" in api.service.log
        assert not load.refused
        _assert_nothing_lost(system, load)


def test_a_broker_that_has_gone_silent_holds_no_end_up(system: System, virtual_host: VirtualHost) -> None:
    """Packets to and from the broker vanish, unnoticed yet, when both services get SIGTERM under load: no answer to the cancel
    of a consumer, no confirm, and none to the close of the connection."""
    with proxied(virtual_host.amqp_url) as way:
        worker = system.start_worker(AMQP_URL=way.amqp_url).wait_until_ready()
        api = system.start_api(AMQP_URL=way.amqp_url, REPLY_TIMEOUT="3")
        api.service.wait_until_ready()

        with load_on(api, CLIENTS) as load:
            eventually(lambda: len(load.answers) > 100, within=60, what="load")
            way.stall()
            for service in (api.service, worker):
                service.signal(signal.SIGTERM)
            for service in (api.service, worker):
                _wait_for_end(service)

        assert (api.service.exit_status, worker.exit_status) == (0, 0)
        assert not load.refused
        way.cut()  # a machine that has gone takes its connections along, sooner or later
        _assert_nothing_lost(system, load)


@pytest.mark.parametrize("module", ["order_api", "inventory_worker"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_a_signal_is_not_lost_between_the_start_and_the_first_request(
    system: System, module: str, ending: signal.Signals
) -> None:
    """The signal comes the moment the service says that it starts, before it serves."""
    service = system.start_api().service if module == "order_api" else system.start_worker()
    eventually(lambda: "starts on" in service.log, within=30, what="the start")

    service.signal(ending)

    _wait_for_end(service)
    assert service.exit_status == 0


def test_sigterm_ends_a_start_that_waits_for_its_database(system: System) -> None:
    """Another process holds the write lock of the SQLite file, so the tables cannot be made yet, when SIGTERM arrives."""
    with locked(system.directory / "orders.db"):
        service = system.start_api().service
        eventually(lambda: "starts on" in service.log, within=30, what="the start")

        service.signal(signal.SIGTERM)

        _wait_for_end(service)
    assert service.exit_status == 0


def test_sigterm_ends_a_start_that_waits_for_its_broker(system: System, virtual_host: VirtualHost) -> None:
    """The broker's machine takes the connection and stays silent, so the handshake hangs, when SIGTERM arrives."""
    with proxied(virtual_host.amqp_url) as way:
        way.stall()
        services = (system.start_api(AMQP_URL=way.amqp_url).service, system.start_worker(AMQP_URL=way.amqp_url))
        for service in services:
            eventually(lambda service=service: _answers(service), within=30, what="the start")  # type: ignore[misc]

        for service in services:
            service.signal(signal.SIGTERM)
        for service in services:
            _wait_for_end(service)

    assert [service.exit_status for service in services] == [0, 0]


def _wait_for_end(service: Service) -> None:
    eventually(lambda: service.exit_status is not None, within=LONGEST_END, what=f"the end of {service.log_file.name}")


def _assert_nothing_lost(system: System, load: Load) -> None:
    """Start both services again on what the first ones left: every order they had stored is decided, and taken once."""
    stored = _stored(system)
    assert load.accepted <= _order_ids(system)
    assert stored <= len(load.accepted) + len(load.unanswered)
    _assert_all_decided(system, stored)


def _assert_all_decided(system: System, count: int) -> None:
    worker = system.start_worker(INITIAL_STOCK='{"widget": 1000000}').wait_until_ready()
    api = system.start_api()
    api.service.wait_until_ready()
    outcomes = [api.wait_for_outcome(order_id, within=60)["status"] for order_id in _order_ids(system)]
    assert outcomes == ["success"] * count
    assert stock_levels(worker)["widget"] == 1_000_000 - count


def _order_ids(system: System) -> set[str]:
    with closing(sqlite3.connect(system.directory / "orders.db", timeout=10)) as database:
        return {row[0] for row in database.execute("SELECT order_id FROM orders")}


def _stored(system: System) -> int:
    return len(_order_ids(system))


def _placing(api: Api) -> dict[str, Any]:
    """Write a request that has a connection of its own."""
    body = {"order_id": new_id(), "items": [{"sku": "widget", "quantity": 1}]}
    return {"url": f"{api.service.url}/orders", "json": body, "timeout": 90, "trust_env": False}


def _refuses(api: Api) -> bool:
    return not _answers(api.service)


def _answers(service: Service) -> bool:
    return status_of(f"{service.url}/health") == 200
