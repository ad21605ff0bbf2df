"""Poison: checks that no retry can make readable go to the dead letters at once, and whoever asked is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from shared.contract.messages import CHECK_TYPE, DECISION_TYPE, CheckInventory, InventoryDecision, Item
from shared.tools.traces.model import Span, span_to_json
from tests.system import Service, System, TestBroker, VirtualHost, new_id, running_system
from tests.waiting import eventually

PROCESS = "process orders:inventory.check"
BURIED = "a check is a dead letter"
EMAIL, CUSTOMER = "ada.lovelace@example.com", "customer-4711"


def _good_body(order_id: str = "O-1", **more: object) -> bytes:
    return json.dumps({"order_id": order_id, "items": [{"sku": "widget", "quantity": 1}], **more}).encode()


@dataclass(frozen=True)
class Poison:
    """A message that a stranger sends, and what its dead letter says."""

    body: bytes
    reason: str = "malformed"
    type: str | None = CHECK_TYPE
    headers: dict[str, Any] = field(default_factory=dict)


POISON = {
    "bytes that are no text": Poison(b"\xff\xfe\x00\x80"),
    "an empty body": Poison(b""),
    "text that is no JSON": Poison(f"hello, this is {EMAIL} ({CUSTOMER})".encode()),
    "JSON cut off": Poison(_good_body()[:-3]),
    "JSON of another shape": Poison(json.dumps({"email": EMAIL, "customer": CUSTOMER}).encode()),
    "JSON that is no object": Poison(json.dumps([EMAIL, CUSTOMER]).encode()),
    "JSON nested without end": Poison(b"[" * 100_000),
    "an e-mail address for an order id": Poison(_good_body(EMAIL)),
    "an e-mail address for a SKU": Poison(_good_body().replace(b"widget", EMAIL.encode())),
    "a quantity that is text": Poison(_good_body().replace(b": 1}", b': "1"}')),
    "a quantity below one": Poison(_good_body().replace(b": 1}", b": 0}")),
    "a quantity beyond every bound": Poison(_good_body().replace(b": 1}", b": " + b"9" * 400 + b"}")),
    "a megabyte that is no check": Poison(json.dumps([EMAIL + CUSTOMER] * 25_000).encode()),
    "a version of tomorrow": Poison(_good_body(), "unknown_version", type="inventory.check.v2"),
    "the type of a reply": Poison(_good_body(), "unknown_version", type=DECISION_TYPE),
    "no type": Poison(_good_body(), "unknown_version", type=None),
    "a type that is noise": Poison(_good_body(), "unknown_version", type="\n\t\x00\u202e{}" * 20),
    "poison that claims a long past": Poison(b"{", headers={"x-failures": 3, "x-delivery-count": 2}),
    "poison with headers of all kinds": Poison(
        b"{", headers={"traceparent": 4, "x": [{"y": bytearray(b"\xff")}], "email": EMAIL}
    ),
}

HOSTILE_REPLY_TO = {
    "none": None,
    "empty": "",
    "a queue that does not exist": "no-such-queue",
    "as long as AMQP allows": "q" * 255,
    "the worker's own queue": "inventory.check",
    "the dead letters": "inventory.check.dead",
    "a queue that brings it back to the worker": "inventory.check.retry.500ms",
    "a reply queue of an instance that is gone": "order-api.replies.gone.000000",
    "noise": "\n\x00\u202e {instance} \U0001f4a5",
}


@dataclass(frozen=True)
class Running:
    """A worker on a virtual host of this module's own."""

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
        yield Running(system, host, system.start_worker().wait_until_ready())


@pytest.mark.parametrize("case", POISON)
async def test_poison_is_a_dead_letter_at_once_and_its_asker_gets_an_error(running: Running, case: str) -> None:
    """A stranger publishes what is no check: the worker stamps it, sends it to the dead letters and says no to the asker."""
    poison, order_id = POISON[case], new_id("POISON")
    async with _channel(running.host) as channel:
        replies = await channel.declare_queue(exclusive=True)

        await _publish(channel, poison, order_id, replies.name)
        reply = await _take(channel, replies.name)
        letter = await _take_of(channel, "inventory.check.dead", order_id)

    assert reply.correlation_id == order_id
    assert InventoryDecision.decode(reply.body) == InventoryDecision(
        order_id=order_id, status="error", reason=f"dead_letter: {poison.reason}"
    )
    assert letter.body == poison.body
    assert letter.headers["x-dead-letter-reason"] == poison.reason
    assert letter.headers["x-dead-letter-origin"] == "inventory.check"
    assert letter.headers["x-dead-letter-attempts"] == poison.headers.get("x-failures", 0) + 1
    assert letter.headers["x-dead-letter-detail"]
    (span,) = _spans_of(running, order_id, PROCESS)
    assert str(letter.headers["traceparent"])[3:35] == span.trace_id
    assert str(letter.headers["x-previous-attempt"])[36:52] == span.span_id
    assert span.status == "ERROR"
    assert (span.attributes["error.type"], span.attributes["delivery.outcome"]) == (poison.reason, "dead_letter")


@pytest.mark.parametrize("case", HOSTILE_REPLY_TO)
async def test_poison_with_a_hostile_reply_to_is_a_dead_letter_and_harms_nobody(running: Running, case: str) -> None:
    """The reply goes where the message says, which the sender made up: to nobody, in a circle, or among the dead letters."""
    order_id = new_id("POISON")
    async with _channel(running.host) as channel:
        await _publish(channel, Poison(b"{}"), order_id, HOSTILE_REPLY_TO[case])
        letter = await _take_of(channel, "inventory.check.dead", order_id, kind=CHECK_TYPE)

        assert letter.headers["x-dead-letter-reason"] == "malformed"
        await _assert_the_worker_answers(channel)
    _assert_nothing_is_stuck(running)


@pytest.mark.parametrize("case", HOSTILE_REPLY_TO)
async def test_a_good_check_with_a_hostile_reply_to_is_decided_and_settled(running: Running, case: str) -> None:
    """The check is well formed, so its stock is taken and recorded; only nobody hears of it."""
    order_id = new_id("STRANGE")
    async with _channel(running.host) as channel:
        await _publish(channel, Poison(_good_body(order_id)), order_id, HOSTILE_REPLY_TO[case])

        (span,) = _spans_of(running, order_id, PROCESS)
        assert span.attributes["order.status"] == "success"
        await _assert_the_worker_answers(channel)
    _assert_nothing_is_stuck(running)


@pytest.mark.parametrize("correlation_id", [None, "", EMAIL, "c" * 255, "\x00", "not an order id"])
async def test_poison_without_a_usable_correlation_id_is_a_dead_letter_that_answers_nobody(
    running: Running, correlation_id: str | None
) -> None:
    """There is a reply queue, but no order id that a reply could be about."""
    marker = new_id().encode()
    async with _channel(running.host) as channel:
        replies = await channel.declare_queue(exclusive=True)

        await _publish(channel, Poison(marker), correlation_id, replies.name)
        while (letter := await _take(channel, "inventory.check.dead")).body != marker:
            pass
        await _assert_the_worker_answers(channel)

        assert letter.correlation_id == (correlation_id or None)
        assert await replies.get(fail=False) is None
    _assert_nothing_is_stuck(running)


async def test_neither_personal_data_nor_payload_of_poison_is_in_a_span_or_log(running: Running) -> None:
    """Every poison once, and one with an address for its correlation id."""
    before = running.worker.log.count(BURIED)
    order_ids = {case: new_id("POISON") for case in POISON}
    async with _channel(running.host) as channel:
        await _publish(channel, Poison(b"{}"), EMAIL, None)
        for case, order_id in order_ids.items():
            await _publish(channel, POISON[case], order_id, None)

    eventually(lambda: running.worker.log.count(BURIED) > before + len(POISON), what="every dead letter")
    for order_id in order_ids.values():
        _spans_of(running, order_id, PROCESS)
    spans = json.dumps([span_to_json(span) for span in running.system.receiver.spans()])
    for secret in (EMAIL, EMAIL.partition("@")[0], CUSTOMER, "hello, this is"):
        assert secret not in spans
        assert secret not in running.worker.log
    assert running.worker.exit_status is None


async def test_an_order_whose_question_was_damaged_on_its_way_is_an_error_and_no_timeout(
    system: System, virtual_host: VirtualHost
) -> None:
    """Somebody in the middle gets the questions instead of the worker, and passes on half of what was in them."""
    system.start_worker().wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="60")
    api.service.wait_until_ready()

    with ThreadPoolExecutor(1) as caller:
        async with _channel(virtual_host) as channel:
            middle = await channel.declare_queue(exclusive=True)
            await middle.bind("orders", "inventory.check")
            await (await channel.get_queue("inventory.check")).unbind("orders", "inventory.check")
            answering = caller.submit(api.submit, {"widget": 1})
            question = await _take(channel, middle.name)
            damaged = aio_pika.Message(
                question.body[:20],
                type=question.type,
                correlation_id=question.correlation_id,
                reply_to=question.reply_to,
                headers=question.headers,
            )
            await channel.default_exchange.publish(damaged, "inventory.check")
            answer = await asyncio.to_thread(answering.result, 60)

    assert answer.status_code == 201
    assert (answer.json()["status"], answer.json()["reason"]) == ("error", "dead_letter: malformed")
    spans = system.receiver.wait_for_trace(answer.headers["x-trace-id"], lambda found: len(found) == 6)
    assert [(span.name, span.service) for span in spans if span.failed] == [
        ("process inventory.check", "inventory-worker")
    ]
    server = next(span for span in spans if span.kind == "SERVER")
    assert (server.attributes["order.status"], server.attributes["order.reason"]) == ("error", "dead_letter: malformed")
    assert [link.attributes["link.reason"] for link in server.links] == ["reply"]


async def test_poison_that_waits_for_the_worker_is_a_dead_letter_as_soon_as_it_starts(
    system: System, virtual_host: VirtualHost
) -> None:
    """The first delivery comes in the same packets as the answer to `basic.consume`, before the worker is quite ready."""
    system.start_worker().wait_until_ready().end()
    async with _channel(virtual_host) as channel:
        for _ in range(20):
            await _publish(channel, Poison(b"{}"), new_id("POISON"), None)

    system.start_worker().wait_until_ready()

    eventually(lambda: virtual_host.queues()["inventory.check"] == 0, within=30, what="an empty queue")
    eventually(lambda: virtual_host.queues()["inventory.check.dead"] == 20, within=30, what="twenty dead letters")


@asynccontextmanager
async def _channel(host: VirtualHost) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(host.amqp_url) as connection:
        yield await connection.channel()


async def _publish(channel: AbstractChannel, poison: Poison, correlation_id: str | None, reply_to: str | None) -> None:
    message = aio_pika.Message(
        poison.body,
        type=poison.type,
        correlation_id=correlation_id,
        reply_to=reply_to,
        headers=dict(poison.headers),
    )
    await (await channel.get_exchange("orders")).publish(message, "inventory.check")


async def _take(channel: AbstractChannel, name: str) -> AbstractIncomingMessage:
    queue = await channel.get_queue(name, ensure=False)
    async with queue.iterator(timeout=20) as messages:
        message = await anext(messages)
        await message.ack()
        return message


async def _take_of(
    channel: AbstractChannel, name: str, correlation_id: str, kind: str | None = None
) -> AbstractIncomingMessage:
    """Take messages until one is about an order; what others left is dropped."""
    while True:
        message = await _take(channel, name)
        if message.correlation_id == correlation_id and kind in {None, message.type}:
            return message


async def _assert_the_worker_answers(channel: AbstractChannel) -> None:
    replies = await channel.declare_queue(exclusive=True)
    order_id = new_id()
    check = CheckInventory(order_id=order_id, items=(Item(sku="widget", quantity=1),))
    await _publish(channel, Poison(check.encode()), order_id, replies.name)
    assert InventoryDecision.decode((await _take(channel, replies.name)).body).status == "success"


def _assert_nothing_is_stuck(running: Running) -> None:
    """The dead letters may stay; nothing else may, neither ready nor unsettled."""

    def is_empty() -> bool:
        return not any(
            count for name, count in running.host.queues().items() if name not in {"inventory.check.dead"} | SHARED
        )

    eventually(is_empty, within=30, what="empty queues")


SHARED = {"order-api.replies.shared"}
"""No API runs here that would take replies to instances that are gone."""


def _spans_of(running: Running, order_id: str, name: str) -> list[Span]:
    def found() -> list[Span]:
        return [
            span
            for span in running.system.receiver.spans()
            if span.name == name and span.attributes.get("messaging.message.conversation_id") == order_id
        ]

    return eventually(found, what=f"the spans of {order_id}")
