"""Replies that come late, twice, to nobody, or broken: the right order is completed or none, and consumption goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from order_api.replies import ReplyKind
from shared.contract.messages import DECISION_TYPE, InventoryDecision, OrderStatus
from shared.contract.topology import REPLY_QUEUE_PREFIX, SHARED_REPLIES
from shared.tools.traces.model import Span
from tests.system import Api, System, TestBroker, VirtualHost, new_id, running_system
from tests.waiting import eventually

SUCCESS, OUT_OF_STOCK = OrderStatus.SUCCESS, OrderStatus.OUT_OF_STOCK


@dataclass(frozen=True)
class Inventory:
    """The test in the place of the inventory: takes questions from the queue, and replies whatever it likes."""

    channel: AbstractChannel

    async def take_question(self, order_id: str) -> AbstractIncomingMessage:
        """Take the question for an order off the queue, and what is before it."""
        queue = await self.channel.get_queue("inventory.check", ensure=False)
        async with queue.iterator(timeout=15) as questions:
            while True:
                question = await anext(questions)
                await question.ack()
                if question.correlation_id == order_id:
                    return question

    async def reply(
        self, queue: str, body: bytes, correlation_id: str | None, message_type: str | None = DECISION_TYPE
    ) -> str:
        """Send a reply, and give its message id."""
        message_id = uuid4().hex
        message = aio_pika.Message(body, type=message_type, correlation_id=correlation_id, message_id=message_id)
        await self.channel.default_exchange.publish(message, queue)
        return message_id

    async def decide(self, queue: str, order_id: str, status: OrderStatus = SUCCESS) -> str:
        """Send a decision as the inventory would."""
        return await self.reply(queue, InventoryDecision(order_id=order_id, status=status).encode(), order_id)


@asynccontextmanager
async def inventory_of(virtual_host: VirtualHost) -> AsyncIterator[Inventory]:
    """Connect to the broker past the services."""
    connection = await aio_pika.connect(virtual_host.amqp_url)
    async with connection:
        yield Inventory(await connection.channel())


@pytest.fixture(scope="module")
def virtual_host(broker: TestBroker) -> Iterator[VirtualHost]:
    """A virtual host for this module."""
    with broker.virtual_host() as host:
        yield host


@pytest.fixture(scope="module")
def system(virtual_host: VirtualHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system for this module."""
    with running_system(virtual_host.amqp_url, tmp_path_factory.mktemp("replies")) as running:
        yield running


@pytest.fixture(scope="module")
def api(system: System, virtual_host: VirtualHost) -> Iterator[Api]:
    """An order API that nobody answers but the tests, and that gives up on a reply soon.

    When it dies, the broker takes back what it left unsettled: whatever it got, that must be nothing.
    """
    api = system.start_api(REPLY_TIMEOUT="0.2", OTEL_METRIC_EXPORT_INTERVAL="200")
    api.service.wait_until_ready()
    yield api
    api.service.kill()
    assert asyncio.run(_messages_left(virtual_host, SHARED_REPLIES)) == 0


@pytest.fixture(params=["own", "shared"])
def reply_queue(request: pytest.FixtureRequest, api: Api, virtual_host: VirtualHost) -> str:
    """Each of the queues that the API takes replies from."""
    if request.param == "shared":
        return SHARED_REPLIES
    (own,) = (
        name for name in virtual_host.queues() if name.startswith(REPLY_QUEUE_PREFIX) and f"-{api.service.pid}." in name
    )
    return own


class Counted:
    """The metric of replies, from the start of a test on."""

    def __init__(self, system: System) -> None:
        self._receiver = system.receiver
        self._before = self._read()

    def wait_for(self, **expected: int) -> None:
        """Wait until exactly these have been counted, by kind; `decided` counts orders."""

        def counted() -> bool:
            values = self._read()
            return {name: values[name] - self._before[name] for name in expected} == expected

        eventually(counted, what=f"the metrics {expected}")
        now = self._read()
        assert {name for name in now if now[name] > self._before[name]} <= {*expected, "decided"}

    def _read(self) -> dict[str, float]:
        read = self._receiver.metric
        kinds = {kind.value: read("orders.replies", kind=kind.value) or 0 for kind in ReplyKind}
        return {**kinds, "decided": read("orders.decided") or 0}


@pytest.fixture
def counted(system: System) -> Counted:
    """What is counted during a test."""
    return Counted(system)


async def test_a_reply_in_time_is_matched(system: System, virtual_host: VirtualHost, counted: Counted) -> None:
    """The question goes out, and the reply comes back under its correlation id while the request waits."""
    patient = system.start_api(REPLY_TIMEOUT="30", OTEL_METRIC_EXPORT_INTERVAL="200")
    patient.service.wait_until_ready()
    order_id = new_id()

    async with inventory_of(virtual_host) as inventory:
        request = asyncio.create_task(asyncio.to_thread(patient.submit, {"widget": 1}, order_id))
        question = await inventory.take_question(order_id)
        message_id = await inventory.decide(question.reply_to or "", order_id)
        answer = await request

    assert (answer.status_code, answer.json()["status"]) == (201, "success")
    span = _process_span(system, message_id)
    assert span.attributes["delivery.reply"] == "matched"
    counted.wait_for(matched=1, decided=1)
    patient.service.kill()


async def test_a_late_reply_completes_its_order_and_no_other(
    system: System, api: Api, virtual_host: VirtualHost, reply_queue: str, counted: Counted
) -> None:
    """Two requests have timed out; the reply to one of them arrives after that."""
    late, other = new_id(), new_id()
    answers = [await asyncio.to_thread(api.submit, {"widget": 1}, order_id) for order_id in (late, other)]

    async with inventory_of(virtual_host) as inventory:
        message_id = await inventory.decide(reply_queue, late)
        order = await asyncio.to_thread(api.wait_for_outcome, late)

    assert [answer.status_code for answer in answers] == [202, 202]
    assert order["status"] == "success"
    assert api.read(other)["status"] == "pending"
    span = _process_span(system, message_id)
    assert span.attributes["delivery.reply"] == "late"
    assert span.attributes["order.id"] == late
    (link,) = (link for link in span.links if link.attributes["link.reason"] == "late_reply_to")
    assert link.trace_id == answers[0].headers["x-trace-id"]
    counted.wait_for(late=1)


async def test_a_second_reply_changes_nothing_whatever_it_says(
    system: System, api: Api, virtual_host: VirtualHost, reply_queue: str, counted: Counted
) -> None:
    """The broker delivers a reply twice, or two workers answered: the first one that is recorded stays."""
    order_id = new_id()
    await asyncio.to_thread(api.submit, {"widget": 1}, order_id)

    async with inventory_of(virtual_host) as inventory:
        await inventory.decide(reply_queue, order_id)
        first = await asyncio.to_thread(api.wait_for_outcome, order_id)
        repeats = [await inventory.decide(reply_queue, order_id, status) for status in (SUCCESS, OUT_OF_STOCK)]
        spans = [_process_span(system, message_id) for message_id in repeats]

    assert api.read(order_id) == first
    assert first["status"] == "success"
    assert [span.attributes["delivery.reply"] for span in spans] == ["duplicate", "duplicate"]
    assert [span.attributes["order.status"] for span in spans] == ["success", "success"], "what the order is"
    counted.wait_for(late=1, duplicate=2, decided=1)


async def test_a_reply_for_an_unknown_order_completes_none(
    system: System, api: Api, virtual_host: VirtualHost, reply_queue: str, counted: Counted
) -> None:
    """A reply for an order of another system that shares the broker, or of a database that was lost."""
    pending, unknown = new_id(), new_id("UNKNOWN")
    await asyncio.to_thread(api.submit, {"widget": 1}, pending)

    async with inventory_of(virtual_host) as inventory:
        message_id = await inventory.decide(reply_queue, unknown)
        span = _process_span(system, message_id)

    assert (span.attributes["delivery.reply"], span.attributes["delivery.outcome"]) == ("foreign", "ack")
    assert span.attributes["order.id"] == unknown
    assert api.read(pending)["status"] == "pending"
    assert api.http.get(f"/orders/{unknown}").status_code == 404
    counted.wait_for(foreign=1)


async def test_a_reply_that_cannot_be_read_completes_none_and_the_next_one_is_taken(
    system: System, api: Api, virtual_host: VirtualHost, reply_queue: str, counted: Counted
) -> None:
    """Bytes of a stranger on the reply queue: broken, of another version, or at odds with themselves."""
    order_id, other = new_id(), new_id()
    for each in (order_id, other):
        await asyncio.to_thread(api.submit, {"widget": 1}, each)
    good = InventoryDecision(order_id=order_id, status=SUCCESS).encode()
    malformed: dict[str, tuple[bytes, str | None, str | None]] = {
        "the correlation id of another order": (good, other, DECISION_TYPE),
        "no correlation id": (good, None, DECISION_TYPE),
        "a hostile correlation id": (good, "\u0000' OR 1=1 --", DECISION_TYPE),
        "no body": (b"", order_id, DECISION_TYPE),
        "no JSON": (b"\xff\xfe{", order_id, DECISION_TYPE),
        "a list": (b"[]", order_id, DECISION_TYPE),
        "deep nesting": (b"[" * 100_000, order_id, DECISION_TYPE),
        "a megabyte": (b" " * 1_000_000, order_id, DECISION_TYPE),
        "an unknown status": (good.replace(b"success", b"sold"), order_id, DECISION_TYPE),
        "a decision that decides nothing": (good.replace(b"success", b"pending"), order_id, DECISION_TYPE),
        "an order id that is none": (good.replace(order_id.encode(), b"../etc"), "../etc", DECISION_TYPE),
        "a version from the future": (good, order_id, "inventory.decision.v2"),
        "another type": (good, order_id, "inventory.check.v1"),
        "no type": (good, order_id, None),
    }

    async with inventory_of(virtual_host) as inventory:
        sent = {why: await inventory.reply(reply_queue, *reply) for why, reply in malformed.items()}
        spans = {why: _process_span(system, message_id) for why, message_id in sent.items()}
        still = [api.read(each)["status"] for each in (order_id, other)]
        await inventory.decide(reply_queue, order_id)
        order = await asyncio.to_thread(api.wait_for_outcome, order_id)

    assert {why: span.attributes["delivery.reply"] for why, span in spans.items()} == dict.fromkeys(sent, "malformed")
    assert {span.attributes["delivery.outcome"] for span in spans.values()} == {"ack"}
    assert {span.attributes["error.type"] for span in spans.values()} == {"malformed", "unknown_version"}
    assert all(span.failed for span in spans.values())
    assert still == ["pending", "pending"]
    assert order["status"] == "success"
    assert api.read(other)["status"] == "pending"
    counted.wait_for(malformed=len(sent), late=1)


async def test_more_useless_replies_than_the_prefetch_do_not_stop_the_one_that_counts(
    system: System, api: Api, virtual_host: VirtualHost, reply_queue: str, counted: Counted
) -> None:
    """The broker hands out no more than the prefetch without acks: replies that stayed unsettled would end consumption."""
    order_id = new_id()
    await asyncio.to_thread(api.submit, {"widget": 1}, order_id)

    async with inventory_of(virtual_host) as inventory:
        for _ in range(3):
            strangers = (inventory.decide(reply_queue, new_id()) for _ in range(100))
            broken = (inventory.reply(reply_queue, b"{", order_id) for _ in range(100))
            await asyncio.gather(*strangers, *broken)
        await inventory.decide(reply_queue, order_id)
        order = await asyncio.to_thread(api.wait_for_outcome, order_id)

    assert order["status"] == "success"
    counted.wait_for(foreign=300, malformed=300, late=1)


async def _messages_left(virtual_host: VirtualHost, queue: str) -> int:
    """Count what is in a queue once its last consumer has gone."""
    async with inventory_of(virtual_host) as inventory, asyncio.timeout(15):
        while True:
            declared = await inventory.channel.declare_queue(queue, passive=True)
            if not declared.declaration_result.consumer_count:
                return declared.declaration_result.message_count or 0
            await asyncio.sleep(0.05)


def _process_span(system: System, message_id: str) -> Span:
    def found() -> Span | None:
        spans = (span for span in system.receiver.spans() if span.kind == "CONSUMER")
        return next((span for span in spans if span.attributes.get("messaging.message.id") == message_id), None)

    span = eventually(found, what=f"the process span of message {message_id}")
    assert span is not None
    return span
