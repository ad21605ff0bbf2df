"""Connections that are cut, go silent, or lose what they consume from: both services recover by themselves, and leak nothing."""

import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from shared.contract.topology import INVENTORY_CHECK, REPLY_QUEUE_PREFIX, SHARED_REPLIES
from tests.broker import new_node, wait_until_saved
from tests.faults.load import load_on
from tests.faults.proxied_broker import ProxiedBroker, proxied
from tests.receiver import names
from tests.system import Api, Service, System, TestBroker, VirtualHost, new_id, running_system, stock_levels
from tests.waiting import eventually

CHANNELS = {"order-api": [1, 3], "inventory-worker": [1, 1]}
"""Of each service's two connections: one with a channel that publishes, one with a channel for each queue that is consumed.

The API, which watches the queues, has one more for that.
"""


@pytest.fixture
def way(virtual_host: VirtualHost) -> Iterator[ProxiedBroker]:
    """The way of both services to the broker."""
    with proxied(virtual_host.amqp_url) as way:
        yield way


@pytest.fixture
def services(system: System, way: ProxiedBroker) -> tuple[Api, Service]:
    """Both services, behind the proxy, noticing a silent broker after some seconds."""
    return _start_both(system, AMQP_URL=way.heartbeat(1))


def _start_both(system: System, **environment: str) -> tuple[Api, Service]:
    environment = {"OTEL_METRIC_EXPORT_INTERVAL": "200", **environment}
    worker = system.start_worker(**environment)
    api = system.start_api(REPLY_TIMEOUT="2", **environment)
    for service in (worker, api.service):
        service.wait_until_ready()
    return api, worker


def test_cut_connections_come_back_and_no_order_under_way_is_lost(
    system: System, virtual_host: VirtualHost, way: ProxiedBroker, services: tuple[Api, Service]
) -> None:
    """A firewall resets every TCP connection, again and again, while orders are under way."""
    api, worker = services

    with load_on(api, clients=4) as load:
        for _ in range(5):
            before = len(load.answers)
            way.cut()
            eventually(lambda before=before: len(load.answers) > before + 20, within=60, what="more orders")  # type: ignore[misc]

    _assert_recovered(system, virtual_host, api, worker)
    outcomes = {api.wait_for_outcome(order_id, within=60)["status"] for order_id in load.accepted}
    assert outcomes == {"success"}
    assert not load.refused
    assert stock_levels(worker)["widget"] == 1_000_000 - len(load.accepted) - 1


def test_a_half_open_connection_is_noticed_and_replaced(
    system: System, virtual_host: VirtualHost, way: ProxiedBroker, services: tuple[Api, Service]
) -> None:
    """Packets vanish both ways while the sockets stay open, as when a NAT forgets a flow. Only missing heartbeats tell. An
    order that was placed meanwhile is decided after the recovery."""
    api, worker = services
    with ThreadPoolExecutor() as pool:
        way.stall()
        answer = pool.submit(api.submit, {"widget": 1}, new_id()).result(30)
        for service in (api.service, worker):
            eventually(lambda service=service: not service.is_ready(), within=30, what="the notice of the silence")  # type: ignore[misc]

        way.cut()
        way.resume()

        assert answer.status_code == 202
        _assert_recovered(system, virtual_host, api, worker)
        assert api.wait_for_outcome(str(answer.json()["order_id"]))["status"] == "success"
        assert stock_levels(worker)["widget"] == 1_000_000 - 2


@pytest.mark.parametrize(
    "points",
    [pytest.param((0.5, 1.5), id="twice"), pytest.param((0.5, 1.0, 1.5, 2.5), marks=pytest.mark.long, id="often")],
)
def test_a_connection_that_goes_silent_while_it_is_set_up_is_given_up_and_made_again(
    system: System,
    virtual_host: VirtualHost,
    way: ProxiedBroker,
    services: tuple[Api, Service],
    points: tuple[float, ...],
) -> None:
    """Packets vanish in the middle of connecting: in the handshake, while a channel opens, while queues are declared. The way
    is slow, so that each of these takes its time."""
    api, worker = services
    both = (api.service, worker)

    for seconds in points:
        given_up = [service.log.count("not connected to RabbitMQ at") for service in both]
        way.slow(0.1)
        way.cut()
        time.sleep(seconds)
        way.stall()
        for service, before in zip(both, given_up, strict=True):
            eventually(
                lambda service=service, before=before: service.log.count("not connected to RabbitMQ at") > before,  # type: ignore[misc]
                within=30,
                what=f"the end of a connection that went silent after {seconds} s",
            )
        way.slow(0)
        way.cut()
        way.resume()
        for service in both:
            service.wait_until_ready()

    _assert_recovered(system, virtual_host, api, worker)


def test_a_reply_on_a_half_open_connection_reaches_its_order_on_the_next_one(
    system: System, virtual_host: VirtualHost
) -> None:
    """Only the API's connection goes silent, with its question already out. The broker still takes it for connected and puts
    the reply into its exclusive queue, which goes when the broker misses the heartbeats."""
    worker = system.start_worker().wait_until_ready()
    with proxied(virtual_host.amqp_url) as way, ThreadPoolExecutor() as pool:
        api = system.start_api(REPLY_TIMEOUT="2", AMQP_URL=way.heartbeat(1))
        api.service.wait_until_ready()
        with worker.paused():
            request = pool.submit(api.submit, {"widget": 1}, trace := new_id())
            eventually(
                lambda: any(span.name == f"send orders:{INVENTORY_CHECK}" for span in system.receiver.spans()),
                what="the question",
            )
            way.stall()
        answer = request.result(30)
        system.receiver.wait_for_trace(
            answer.headers["x-trace-id"], lambda found: "send order-api.replies.{instance}" in names(found)
        )
        eventually(lambda: not api.service.is_ready(), within=30, what="the notice of the silence")
        way.cut()
        way.resume()

        order = api.wait_for_outcome(trace)

        assert answer.status_code == 202
        assert order["status"] == "success"
        assert stock_levels(worker)["widget"] == 999_999


@pytest.mark.parametrize(
    "is_crash",
    [pytest.param(False, id="orderly"), pytest.param(True, id="crash", marks=pytest.mark.long)],
)
def test_after_a_restart_of_the_broker_both_services_are_back(tmp_path: Path, is_crash: bool) -> None:
    """The broker closes every connection and ends, or is killed by SIGKILL; a new process comes up on its files."""
    with new_node() as node, ExitStack() as stack:
        assert node.management_url is not None
        virtual_host = stack.enter_context(TestBroker(node.amqp_url, node.management_url).virtual_host())
        system = stack.enter_context(running_system(virtual_host.amqp_url, tmp_path))
        api, worker = _start_both(system)
        with load_on(api, clients=1) as load:
            eventually(lambda: len(load.accepted) > 50, within=60, what="load")

        if is_crash:
            wait_until_saved(node, host=virtual_host.name)
            node.kill()
        node.restart()

        _assert_recovered(system, virtual_host, api, worker)


@pytest.mark.parametrize("queue", [INVENTORY_CHECK, SHARED_REPLIES])
def test_a_queue_that_is_deleted_under_its_consumer_is_declared_and_consumed_again(
    system: System, virtual_host: VirtualHost, queue: str
) -> None:
    """An operator deletes a queue. The broker cancels its consumer and leaves connection and channel open: a consumer that
    does not listen for that waits for ever."""
    api, worker = _start_both(system)
    consumer = "inventory-worker" if queue == INVENTORY_CHECK else "order-api"
    before = eventually(lambda: _consuming(virtual_host, consumer), what="the connection of the consumer")

    virtual_host.api.delete(f"/queues/{virtual_host.name}/{queue}").raise_for_status()

    def is_replaced() -> bool:
        return bool(_consuming(virtual_host, consumer) - before)

    eventually(is_replaced, within=30, what="a new connection of the consumer")
    _assert_recovered(system, virtual_host, api, worker)
    answer = api.submit({"widget": 1})
    assert (answer.status_code, answer.json()["status"]) == (201, "success")


def test_the_exclusive_reply_queue_can_go_only_with_its_connection(system: System, virtual_host: VirtualHost) -> None:
    """An operator tries to delete the API's own reply queue, which the broker refuses, and then closes its connection, which
    takes the queue along. The next connection has a queue of another name."""
    api, worker = _start_both(system)
    (own,) = _own_reply_queues(virtual_host)

    refused = virtual_host.api.delete(f"/queues/{virtual_host.name}/{own}")
    (of_api,) = eventually(lambda: _consuming(virtual_host, "order-api"), what="the API's connection")
    virtual_host.api.delete(f"/connections/{quote(of_api)}").raise_for_status()

    assert refused.is_client_error
    eventually(lambda: own not in (now := _own_reply_queues(virtual_host)) and now, what="another reply queue")
    _assert_recovered(system, virtual_host, api, worker)
    assert len(_own_reply_queues(virtual_host)) == 1


def test_many_lost_connections_leave_one_of_each_service(
    system: System, virtual_host: VirtualHost, way: ProxiedBroker, services: tuple[Api, Service]
) -> None:
    """The broker lets nobody in for a while, then cuts whoever has come in, and so on: no attempt may leave a connection, a
    channel, a consumer or a reply queue behind."""
    api, worker = services

    for _ in range(5):
        way.refuse()
        way.cut()
        for service in (api.service, worker):
            eventually(lambda service=service: not service.is_ready(), what="the notice of the cut")  # type: ignore[misc]
        way.accept()
        for service in (api.service, worker):
            service.wait_until_ready()

    _assert_recovered(system, virtual_host, api, worker)
    eventually(lambda: len(_own_reply_queues(virtual_host)) == 1, what="a single reply queue")


def _assert_recovered(system: System, virtual_host: VirtualHost, api: Api, worker: Service) -> None:
    """Both are ready, an order goes through, nobody waits, and each has its two connections with their channels and consumers."""
    for service in (api.service, worker):
        service.wait_until_ready()
    assert api.wait_for_outcome(api.submit({"widget": 1}).json()["order_id"], within=60)["status"] == "success"
    eventually(lambda: system.receiver.metric("orders.waiting") == 0, what="no request that waits")

    def channels() -> dict[str, list[int]]:
        found = _connections(virtual_host)
        return {service: sorted(connection["channels"] for connection in found[service]) for service in found}

    eventually(lambda: channels() == CHANNELS, within=30, what="two connections of each service, with their channels")


def _connections(virtual_host: VirtualHost) -> dict[str, list[dict[str, Any]]]:
    """Give the open connections of each service; one is known some seconds after it was made."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for connection in virtual_host.api.get(f"/vhosts/{virtual_host.name}/connections").raise_for_status().json():
        if "client_properties" in connection and "channels" in connection:
            service = connection["client_properties"]["connection_name"].split()[0]
            found[service].append(connection)
    return found


def _consuming(virtual_host: VirtualHost, service: str) -> set[str]:
    """Give the names of a service's open connections that consume."""
    return {
        connection["name"]
        for connection in _connections(virtual_host).get(service, ())
        if connection["client_properties"]["connection_name"].endswith("consumes")
    }


def _own_reply_queues(virtual_host: VirtualHost) -> set[str]:
    return {name for name in virtual_host.queues() if name.startswith(REPLY_QUEUE_PREFIX) and name != SHARED_REPLIES}
