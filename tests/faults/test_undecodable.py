"""Poison below the callback: what the client cannot decode, or should not, costs its own delivery and nobody else's."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from shared.contract.messages import CHECK_TYPE, DECISION_TYPE, CheckInventory, InventoryDecision, Item
from shared.rabbit.decoding import bound_bodies, defect_of, tolerate_undecodable
from tests.hostile_properties import ALL, MICROSECONDS, MODES, NOT_UTF8, SHORT_STRINGS, TIMESTAMPS, with_header
from tests.raw_amqp import RawPublisher, Refused, Section, long_string, section, short_string, table
from tests.system import Service, System, TestBroker, VirtualHost, new_id, running_system, stock_levels
from tests.waiting import eventually

PREFETCH = 128
MEGABYTE = 1 << 20
REFUSED_BY_3_10 = MODES.keys()
"""RabbitMQ 4.x takes these; what neither takes is in the sweep only."""
REFUSED_BY_BOTH = {"expiration that is no UTF-8", "user_id that is no UTF-8"}
CASES = {
    **{case: properties for case, properties in SHORT_STRINGS.items() if case not in REFUSED_BY_BOTH},
    **TIMESTAMPS,
    "delivery mode 3": MODES["delivery mode 3"],
    **{
        case: ALL[case]
        for case in (
            "header name that is no UTF-8",
            "header name in a nested table that is no UTF-8",
            "header timestamp in microseconds",
            "header timestamp in an array",
            "headers nested a thousand arrays deep",
            "headers nested a thousand tables deep",
            "headers of 120 kB",
        )
    },
}


def reason_of(message: Any) -> str | None:
    """Say in one line why a message cannot be worked with; None where it can."""
    defect = defect_of(message)
    return None if defect is None else str(defect)


@dataclass(frozen=True)
class Running:
    """A worker on a virtual host of this module's own, which has made one connection."""

    system: System
    host: VirtualHost
    worker: Service


@pytest.fixture(scope="module")
def running(broker: TestBroker) -> Iterator[Running]:
    with (
        TemporaryDirectory() as directory,
        broker.virtual_host() as host,
        running_system(host.amqp_url, Path(directory)) as system,
    ):
        yield Running(system, host, system.start_worker(OTEL_METRIC_EXPORT_INTERVAL="300").wait_until_ready())


@pytest.mark.parametrize("case", CASES)
async def test_one_undecodable_message_among_100_checks_is_the_one_dead_letter(running: Running, case: str) -> None:
    """The worker is handed all of them at once. Its neighbours are not even delivered twice."""
    before, innocents = stock_levels(running.worker)["widget"], [new_id() for _ in range(100)]
    async with await aio_pika.connect(running.host.amqp_url) as connection:
        channel = await connection.channel()
        replies = await channel.declare_queue(exclusive=True)
        with running.worker.paused():
            await _ask(channel, innocents[:50], replies)
            is_taken = await asyncio.to_thread(_publish_raw, running.host, "inventory.check", [CASES[case]]) == 1
            await _ask(channel, innocents[50:], replies)

        statuses = await _statuses(replies, len(innocents))

    assert is_taken or case in REFUSED_BY_3_10
    assert statuses == dict.fromkeys(innocents, "success")
    await _take_dead_letters(running.host, int(is_taken))
    _assert_first_deliveries(running.system, innocents)
    assert stock_levels(running.worker)["widget"] == before - 100
    assert _connections(running.worker) == 2


async def test_200_undecodable_messages_in_a_row_do_not_stop_the_worker(running: Running) -> None:
    """More than it holds at a time (128): one that was never settled would keep its place for ever."""
    assert PREFETCH < 200
    told = running.worker.log.count("is put aside")

    taken = _publish_raw(running.host, "inventory.check", [TIMESTAMPS[f"timestamp of {MICROSECONDS}"]] * 200)

    assert taken == 200
    await _take_dead_letters(running.host, 200)
    assert running.worker.log.count("is put aside") == told + 200
    await _assert_the_worker_answers(running)


async def test_200_messages_of_delivery_mode_3_in_a_row_do_not_stop_the_worker(running: Running) -> None:
    """RabbitMQ 4.x takes them, and aio-pika makes no message of them; RabbitMQ 3.10 refuses each."""
    taken = _publish_raw(running.host, "inventory.check", [MODES["delivery mode 3"]] * 200)

    assert taken in {0, 200}
    await _take_dead_letters(running.host, taken)
    await _assert_the_worker_answers(running)


async def test_whatever_properties_the_broker_takes_the_worker_settles(running: Running) -> None:
    """The sweep: every property and every type of header, out of range, cut off or nested; all are poison."""
    taken = _publish_raw(running.host, "inventory.check", ALL.values())

    assert taken >= 20
    await _take_dead_letters(running.host, taken)
    await _assert_the_worker_answers(running)


async def test_the_reason_is_on_a_metric_and_on_the_span_but_nothing_of_the_message(
    system: System, virtual_host: VirtualHost
) -> None:
    """A worker of its own: what others have made one count may arrive at any time."""
    worker = system.start_worker(OTEL_METRIC_EXPORT_INTERVAL="300").wait_until_ready()
    attributes = {"messaging.destination.name": "inventory.check", "error.type": "undecodable"}
    secret = section(correlation_id=short_string(b"ada.lovelace@example.com" + NOT_UTF8))

    _publish_raw(virtual_host, "inventory.check", [secret])

    await _take_dead_letters(virtual_host, 1)
    eventually(lambda: system.receiver.metric("orders.undecodable", **attributes) == 1, what="the count")
    span = eventually(
        lambda: [each for each in system.receiver.spans() if each.attributes.get("error.type") == "undecodable"],
        what="the span",
    )[-1]
    assert (span.status, span.attributes["delivery.outcome"]) == ("ERROR", "dead_letter")
    assert "ada.lovelace" not in worker.log


async def test_a_check_under_a_routing_key_that_is_no_utf8_is_answered(running: Running) -> None:
    """A copy for our queue, by the header CC: the delivery itself names the key, below all properties."""
    order_id = new_id()
    async with await aio_pika.connect(running.host.amqp_url) as connection:
        channel = await connection.channel()
        replies = await channel.declare_queue(exclusive=True)
        properties = section(
            headers=table((b"CC", b"A" + long_string(b"S" + long_string(b"inventory.check")))),
            correlation_id=short_string(order_id.encode()),
            reply_to=short_string(replies.name.encode()),
            type=short_string(CHECK_TYPE.encode()),
        )
        with RawPublisher(running.host.amqp_url) as raw:
            raw.publish("orders", NOT_UTF8, properties, _check(order_id))

        assert await _statuses(replies, 1) == {order_id: "success"}
    assert _connections(running.worker) == 2


@pytest.mark.parametrize("kind", ["its own", "the shared"])
async def test_undecodable_replies_among_100_cost_no_order_its_outcome(
    system: System, virtual_host: VirtualHost, kind: str
) -> None:
    """One of each kind, in the middle of 100 replies, on a queue that the API alone may read or that all APIs read."""
    api = system.start_api(REPLY_TIMEOUT="0.1")
    api.service.wait_until_ready()
    orders = [new_id() for _ in range(100)]
    with ThreadPoolExecutor(10) as callers:
        answers = list(callers.map(lambda order_id: api.submit({"widget": 1}, order_id).status_code, orders))
    queue = "order-api.replies.shared"
    if kind == "its own":
        (queue,) = (name for name in virtual_host.queues() if name.startswith("order-api.replies.") and name != queue)

    with api.service.paused():
        await _reply(virtual_host, queue, orders[:50])
        taken = await asyncio.to_thread(_publish_raw, virtual_host, queue, CASES.values())
        await _reply(virtual_host, queue, orders[50:])

    assert set(answers) == {202}
    outcomes = {order_id: api.wait_for_outcome(order_id)["status"] for order_id in orders}
    assert outcomes == dict.fromkeys(orders, "success")
    assert taken >= len(CASES) - 1
    eventually(lambda: api.service.log.count("is put aside") == taken, what="the poison put aside")
    eventually(lambda: virtual_host.queues()[queue] == 0, what="an empty queue")
    eventually(
        lambda: virtual_host.queues()["inventory.check.dead"] == (taken if kind == "the shared" else 0),
        what="the dead letters",
    )
    _assert_first_deliveries(system, orders)
    assert _connections(api.service) == 2


async def test_60_bodies_of_5_megabytes_are_put_aside_without_being_held(
    system: System, virtual_host: VirtualHost
) -> None:
    """They are handed out 128 at a time, and took the worker to 741 MB."""
    size = 5 * MEGABYTE
    first = system.start_worker().wait_until_ready()
    usual = _largest_megabytes(first)
    first.end()
    with RawPublisher(virtual_host.amqp_url) as raw:
        for _ in range(60):
            raw.publish("", b"inventory.check", section(type=short_string(CHECK_TYPE.encode())), b"x" * size)

    worker = system.start_worker(OTEL_METRIC_EXPORT_INTERVAL="300").wait_until_ready()

    await _take_dead_letters(virtual_host, 60)
    assert _largest_megabytes(worker) < usual + 50
    assert worker.log.count(f"a body of {size} bytes, more than {MEGABYTE}") == 60
    attributes = {"messaging.destination.name": "inventory.check", "error.type": "too_large"}
    eventually(lambda: system.receiver.metric("orders.undecodable", **attributes) == 60, what="the count")
    await _assert_the_worker_answers(Running(system, virtual_host, worker))


async def test_a_message_that_is_fetched_is_marked_like_one_that_is_consumed(virtual_host: VirtualHost) -> None:
    """As the dead-letter commands fetch theirs."""
    tolerate_undecodable()
    cases = [TIMESTAMPS[f"timestamp of {MICROSECONDS}"], with_header(b"V"), section(message_id=short_string(b"large"))]
    async with await aio_pika.connect(virtual_host.amqp_url) as connection:
        channel = await connection.channel()
        await bound_bodies(channel, 1000)
        queue = await channel.declare_queue(exclusive=True)
        with RawPublisher(virtual_host.amqp_url) as raw:
            for properties, size in zip(cases, (2, 1000, 300_000), strict=True):
                raw.publish("", queue.name.encode(), properties, b"x" * size)

        undecodable, good, large = [await queue.get() for _ in cases]

        assert (reason_of(undecodable) or "").startswith("undecodable: ValueError: year")
        assert (reason_of(good), len(good.body)) == (None, 1000)
        assert reason_of(large) == "too_large: a body of 300000 bytes, more than 1000"
        assert (large.message_id, large.body) == ("large", b"")
        for message in (undecodable, good, large):
            await message.ack()
        assert await queue.get(fail=False) is None


async def test_the_broker_refuses_what_is_larger_than_16_megabytes(running: Running) -> None:
    """Far beyond what a service reads, so that no well-meant message is refused where it can be put aside."""
    with RawPublisher(running.host.amqp_url) as raw:
        raw.publish("orders", b"inventory.check", section(), b"x" * 16 * MEGABYTE)
        with pytest.raises(Refused, match="larger than"):
            raw.publish("orders", b"inventory.check", section(), b"x" * (16 * MEGABYTE + 1))

    await _take_dead_letters(running.host, 1)


def _publish_raw(host: VirtualHost, queue: str, messages: Iterable[Section]) -> int:
    """Publish what the broker takes, and tell how many that were; it closes the connection on what it refuses."""
    taken, raw = 0, None
    for properties in messages:
        raw = raw or RawPublisher(host.amqp_url)
        try:
            raw.publish("", queue.encode(), properties)
            taken += 1
        except (Refused, ConnectionError):
            raw.close()
            raw = None
    if raw is not None:
        raw.close()
    return taken


def _check(order_id: str) -> bytes:
    return CheckInventory(order_id=order_id, items=(Item(sku="widget", quantity=1),)).encode()


async def _ask(channel: AbstractChannel, order_ids: list[str], replies: AbstractQueue) -> None:
    exchange = await channel.get_exchange("orders")
    for order_id in order_ids:
        check = aio_pika.Message(_check(order_id), type=CHECK_TYPE, correlation_id=order_id, reply_to=replies.name)
        await exchange.publish(check, "inventory.check")


async def _reply(host: VirtualHost, queue: str, order_ids: list[str]) -> None:
    async with await aio_pika.connect(host.amqp_url) as connection:
        channel = await connection.channel()
        for order_id in order_ids:
            decision = InventoryDecision(order_id=order_id, status="success").encode()
            reply = aio_pika.Message(decision, type=DECISION_TYPE, correlation_id=order_id)
            await channel.default_exchange.publish(reply, queue)


async def _statuses(replies: AbstractQueue, count: int) -> Mapping[str, str]:
    """Take so many replies, and give the status of each order."""
    statuses: dict[str, str] = {}
    async with asyncio.timeout(60), replies.iterator() as messages:
        async for message in messages:
            await message.ack()
            decision = InventoryDecision.decode(message.body)
            statuses[decision.order_id] = decision.status
            if len(statuses) == count:
                break
    return statuses


async def _take_dead_letters(host: VirtualHost, count: int) -> None:
    """Wait until there are exactly so many and no check is left, and take them away."""
    async with await aio_pika.connect(host.amqp_url) as connection, asyncio.timeout(60):
        channel = await connection.channel()
        found = -1
        while found != count or await _messages(channel, "inventory.check"):
            await asyncio.sleep(0.05)
            found = await _messages(channel, "inventory.check.dead")
            assert found <= count
        await (await channel.get_queue("inventory.check.dead")).purge()


async def _messages(channel: AbstractChannel, name: str) -> int:
    queue = await channel.declare_queue(name, passive=True)
    return queue.declaration_result.message_count or 0


def _assert_first_deliveries(system: System, order_ids: list[str]) -> None:
    """Each was delivered once: by its span, which the broker's own count of deliveries is read into."""

    def attempts() -> dict[str, list[object]]:
        found: dict[str, list[object]] = {order_id: [] for order_id in order_ids}
        for span in system.receiver.spans():
            if (
                span.name.startswith("process")
                and (of := span.attributes.get("messaging.message.conversation_id")) in found
            ):
                found[str(of)].append((span.attributes["delivery.attempt"], span.attributes["delivery.redelivered"]))
        return found

    eventually(lambda: all(attempts().values()), what="a span of each")
    assert attempts() == {order_id: [(1, False)] for order_id in order_ids}


async def _assert_the_worker_answers(running: Running) -> None:
    """On the connection that it has had from the start."""
    order_id = new_id()
    async with await aio_pika.connect(running.host.amqp_url) as connection:
        channel = await connection.channel()
        replies = await channel.declare_queue(exclusive=True)
        await _ask(channel, [order_id], replies)
        assert await _statuses(replies, 1) == {order_id: "success"}
    assert _connections(running.worker) == 2


def _connections(service: Service) -> int:
    """Count the connections to the broker so far: two, unless one was lost."""
    return service.log.count("connected to RabbitMQ")


def _largest_megabytes(service: Service) -> int:
    """Give the most memory that a process has had so far."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024
