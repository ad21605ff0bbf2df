"""The broker is down, crashes, or is silent: orders are accepted, answered in time, and decided once it is back."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx
import pytest

from shared.tools.local.rabbitmq_node import PrivateNode
from shared.tools.traces.model import Span
from tests.broker import new_node, wait_until_saved
from tests.faults.load import load_on
from tests.faults.proxied_broker import proxied
from tests.receiver import names
from tests.system import Service, System, TestBroker, VirtualHost, new_id, stock_levels
from tests.waiting import eventually

SEND, PROCESS = "send orders:inventory.check", "process orders:inventory.check"
WHOLE_TRACE = sorted(
    ["POST /orders", SEND, PROCESS, "send order-api.replies.{instance}", "process order-api.replies.{instance}"]
)


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateNode]:
    """A broker of this module's own, to crash."""
    with new_node() as node:
        yield node


@pytest.fixture
def virtual_host(node: PrivateNode) -> Iterator[VirtualHost]:
    """A virtual host on it."""
    assert node.management_url is not None
    with TestBroker(node.amqp_url, node.management_url).virtual_host() as host:
        yield host


@contextmanager
def crashed(node: PrivateNode, host: VirtualHost) -> Iterator[None]:
    """Crash the broker, and start it again on its files at the end."""
    wait_until_saved(node, host=host.name)
    node.kill()
    try:
        yield
    finally:
        node.restart()


def test_an_order_is_accepted_while_the_broker_is_down_and_decided_in_its_trace_once_it_is_back(
    system: System, node: PrivateNode, virtual_host: VirtualHost
) -> None:
    """SIGKILL on the broker: every TCP connection to it is reset, and new ones are refused until it runs again."""
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="10")
    api.service.wait_until_ready()
    order_id = new_id()

    with crashed(node, virtual_host):
        eventually(lambda: not api.service.is_ready(), what="the API's notice of the crash")
        started = time.monotonic()
        answer = api.submit({"widget": 1}, order_id)
        seconds = time.monotonic() - started
    order = api.wait_for_outcome(order_id, within=30)

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert answer.headers["location"] == f"/orders/{order_id}"
    assert seconds < 5, "it is known at once that nobody can answer"
    assert order["status"] == "success"
    assert stock_levels(worker)["widget"] == 999_999
    spans = system.receiver.wait_for_trace(answer.headers["x-trace-id"], lambda found: len(found) >= len(WHOLE_TRACE))
    assert names(spans) == WHOLE_TRACE
    by_name = {span.name: span for span in spans}
    server, reply = by_name["POST /orders"], by_name["process order-api.replies.{instance}"]
    assert _deferrals(server) == ["broker_unavailable"]
    assert server.attributes["order.status"] == "pending"
    assert by_name[SEND].parent_span_id == server.span_id
    assert by_name[SEND].start_ns > server.end_ns
    assert by_name[PROCESS].parent_span_id == by_name[SEND].span_id
    assert _links(reply)["late_reply_to"] == server.span_id
    assert reply.attributes["delivery.reply"] == "late"


def test_both_services_say_that_the_broker_is_away_and_when_it_is_back(
    system: System, node: PrivateNode, virtual_host: VirtualHost
) -> None:
    """SIGKILL on the broker, and a start of a new process on the same files and port."""
    services = (system.start_worker().wait_until_ready(), system.start_api().service.wait_until_ready())

    with crashed(node, virtual_host):
        for service in services:
            eventually(lambda service=service: not service.is_ready(), what="the notice of the crash")  # type: ignore[misc]
        away = [_ready(service) for service in services]
        alive = [httpx.get(f"{service.url}/health", trust_env=False).status_code for service in services]

    assert [answer.status_code for answer in away] == [503, 503]
    assert [list(answer.json()["unavailable"]) for answer in away] == [["broker"], ["broker"]]
    assert alive == [200, 200]
    for service in services:
        service.wait_until_ready()


@pytest.mark.long
def test_a_crash_of_the_broker_under_load_loses_no_accepted_order_and_doubles_none(
    system: System, node: PrivateNode, virtual_host: VirtualHost
) -> None:
    """SIGKILL on the broker while questions, replies, confirms and acks are under way in every stage, then a restart."""
    worker = system.start_worker(OTEL_METRIC_EXPORT_INTERVAL="200").wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="1", OTEL_METRIC_EXPORT_INTERVAL="200")
    api.service.wait_until_ready()

    with load_on(api, clients=8) as load:
        eventually(lambda: len(load.answers) > 100, within=60, what="load")
        with crashed(node, virtual_host):
            before = len(load.answers)
            eventually(lambda: len(load.answers) > before + 50, within=60, what="orders placed while it is down")
        api.service.wait_until_ready()
    outcomes = {order_id: api.wait_for_outcome(order_id, within=60)["status"] for order_id in load.accepted}

    assert not load.refused
    assert not load.unanswered
    assert set(outcomes.values()) == {"success"}
    assert stock_levels(worker)["widget"] == 1_000_000 - len(outcomes)
    receiver = system.receiver
    decided = eventually(
        lambda: (count := receiver.metric("orders.decided")) == len(outcomes) and count,
        what="the metric of decided orders",
    )
    assert decided == receiver.metric("orders.decided", status="success")
    assert receiver.metric("orders.waiting") == 0


def test_a_silent_broker_holds_an_answer_up_no_longer_than_the_reply_timeout(
    system: System, virtual_host: VirtualHost
) -> None:
    """Packets to and from the broker vanish on the way: the connection looks open, but no confirm ever comes."""
    worker = system.start_worker().wait_until_ready()
    with proxied(virtual_host.amqp_url) as way:
        api = system.start_api(REPLY_TIMEOUT="1", AMQP_URL=way.amqp_url)
        api.service.wait_until_ready()

        way.stall()
        started = time.monotonic()
        answer = api.submit({"widget": 1})
        seconds = time.monotonic() - started
        way.resume()
        order = api.wait_for_outcome(str(answer.json()["order_id"]))

        assert answer.status_code == 202
        assert 0.9 < seconds < 2.9, "the reply timeout, and not the longer one of a publish in the background"
        assert order["status"] == "success"
        assert stock_levels(worker)["widget"] == 999_999
        spans = system.receiver.wait_for_trace(
            answer.headers["x-trace-id"], lambda found: "process order-api.replies.{instance}" in names(found)
        )
        (server,) = (span for span in spans if span.kind == "SERVER")
        assert _deferrals(server) == [], "the check has a deadline of its own, and was on its way"
        (send,) = (span for span in spans if span.name == SEND)
        assert send.parent_span_id == server.span_id
        assert send.end_ns > server.end_ns, "its confirm came after the answer"


def test_an_order_that_is_stored_is_accepted_even_if_the_database_locks_while_the_broker_is_silent(
    system: System, virtual_host: VirtualHost
) -> None:
    """No confirm comes from the broker, and meanwhile another process takes the write lock of the SQLite file.

    The order itself was committed before. What cannot be written any more is only that the relay should hurry.
    """
    system.start_worker().wait_until_ready()
    with proxied(virtual_host.amqp_url) as way, ThreadPoolExecutor() as pool:
        api = system.start_api(REPLY_TIMEOUT="2", AMQP_URL=way.amqp_url)
        api.service.wait_until_ready()
        order_id = new_id()

        way.stall()
        answering = pool.submit(api.submit, {"widget": 1}, order_id)
        eventually(lambda: api.http.get(f"/orders/{order_id}").status_code == 200, what="the stored order")
        with closing(sqlite3.connect(system.directory / "orders.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = answering.result(30)
        way.resume()

        assert (answer.status_code, answer.json()["status"]) == (202, "pending")
        assert api.wait_for_outcome(order_id)["status"] == "success"


def _ready(service: Service) -> httpx.Response:
    return httpx.get(f"{service.url}/ready", timeout=10, trust_env=False)


def _deferrals(server: Span) -> list[object]:
    return [event.attributes["error.type"] for event in server.events if event.name == "ask deferred"]


def _links(span: Span) -> dict[object, str]:
    return {link.attributes["link.reason"]: link.span_id for link in span.links}
