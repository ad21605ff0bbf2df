"""Retries: what may pass with time is tried again, later each time, and not for ever."""

import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aio_pika
import httpx

from shared.contract.messages import CHECK_TYPE, CheckInventory, InventoryDecision, Item
from shared.tools.traces.model import Span
from tests.postgres import private_postgres
from tests.receiver import names
from tests.system import System, VirtualHost, new_id, stock_levels
from tests.waiting import eventually

PROCESS = "process orders:inventory.check"
PATIENT = {"REPLY_TIMEOUT": "100"}
"""Longer than all retries: the request waits for them, and the relay, which waits twice as long, stays out of the trace."""


def test_a_check_that_finds_the_database_locked_is_tried_later_and_later_until_it_takes_its_stock_once(
    system: System, virtual_host: VirtualHost
) -> None:
    """Another process holds the write lock of the worker's SQLite file, as a backup or a forgotten shell does.

    Each attempt waits two seconds for the lock, gives up, and is published to a queue whose TTL brings it back: after half
    a second, then after two. The lock is let go while the message lies in the second of these queues.
    """
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(**PATIENT)
    api.service.wait_until_ready()
    order_id = new_id()

    with ThreadPoolExecutor(1) as caller:
        with _locked(system.directory / "inventory.db"):
            answering = caller.submit(api.submit, {"widget": 1}, order_id)
            eventually(lambda: "attempt 2 failed" in worker.log, within=60, what="a second failed attempt")
        answer = answering.result(60)

    assert (answer.status_code, answer.json()["status"]) == (201, "success")
    assert stock_levels(worker)["widget"] == 999_999
    attempts = _attempts(system, answer, 3)
    assert _told(attempts, "delivery.attempt") == [1, 2, 3]
    assert _told(attempts, "delivery.outcome") == ["retry", "retry", "ack"]
    assert _told(attempts, "delivery.redelivered") == [False] * 3  # each is a message of its own
    assert [span.status for span in attempts] == ["ERROR", "ERROR", "UNSET"]
    assert _told(attempts, "error.type") == ["store_unavailable", "store_unavailable", None]
    _assert_each_links_to_the_one_before(attempts)
    waits = [float(str(span.attributes["delivery.queue_wait_ms"])) for span in attempts]
    assert waits[1] >= 500
    assert waits[2] >= 2000
    trace = {span.span_id: span for span in system.receiver.trace(attempts[0].trace_id)}
    parents = [trace[span.parent_span_id or ""] for span in attempts]
    assert [parent.name for parent in parents[1:]] == [
        "send inventory.check.retry.500ms",
        "send inventory.check.retry.2000ms",
    ]
    assert [parent.parent_span_id for parent in parents[1:]] == [span.span_id for span in attempts[:2]]
    eventually(lambda: sum(virtual_host.queues().values()) == 0, what="queues without a rest")


async def test_a_check_that_fails_for_longer_than_all_retries_is_a_dead_letter_and_its_order_an_error(
    system: System, virtual_host: VirtualHost
) -> None:
    """The worker's PostgreSQL is killed and stays away: connecting is refused at once, for each of five attempts.

    The four delays add up to 40.5 seconds, and this test waits for them.
    """
    with (
        TemporaryDirectory(prefix="traced-orders-postgres-") as directory,
        private_postgres(Path(directory)) as server,
        server.database() as url,
    ):
        worker = system.start_worker(DATABASE_URL=url).wait_until_ready()
        api = system.start_api(**PATIENT)
        api.service.wait_until_ready()
        api.http.timeout = 100
        server.kill()

        answer = api.submit({"widget": 1})
        unready = httpx.get(f"{worker.url}/ready", trust_env=False)
        server.start()
        worker.wait_until_ready()

    assert (answer.status_code, answer.json()["status"]) == (201, "error")
    assert answer.json()["reason"] == "dead_letter: retries_exhausted"
    assert unready.status_code == 503
    assert list(unready.json()["unavailable"]) == ["database"]
    attempts = _attempts(system, answer, 5)
    assert _told(attempts, "delivery.attempt") == [1, 2, 3, 4, 5]
    assert _told(attempts, "delivery.outcome") == ["retry"] * 4 + ["dead_letter"]
    assert [span.status for span in attempts] == ["ERROR"] * 5
    _assert_each_links_to_the_one_before(attempts)
    letter = await _take(virtual_host, "inventory.check.dead")
    assert letter.headers["x-dead-letter-reason"] == "retries_exhausted"
    assert letter.headers["x-dead-letter-origin"] == "inventory.check"
    assert letter.headers["x-dead-letter-attempts"] == 5
    assert letter.headers["x-dead-letter-detail"]
    assert str(letter.headers["traceparent"])[3:35] == attempts[0].trace_id
    assert str(letter.headers["x-previous-attempt"])[36:52] == attempts[4].span_id
    assert (letter.correlation_id, letter.type) == (answer.json()["order_id"], CHECK_TYPE)
    assert CheckInventory.decode(letter.body).order_id == answer.json()["order_id"]
    eventually(lambda: sum(virtual_host.queues().values()) == 0, what="queues without a rest")


async def test_a_reply_that_the_broker_refuses_is_sent_again_and_the_stock_taken_once(
    system: System, virtual_host: VirtualHost
) -> None:
    """The asker's reply queue is full and rejects publishes: the broker answers the worker's reply with a nack.

    The decision is committed by then. The retry finds it recorded, and once the queue has room again replies with it.
    """
    worker = system.start_worker().wait_until_ready()
    order_id = new_id()
    async with await aio_pika.connect(virtual_host.amqp_url) as connection:
        channel = await connection.channel()
        replies = await channel.declare_queue(
            "full", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await channel.default_exchange.publish(aio_pika.Message(b"in the way"), replies.name)
        check = CheckInventory(order_id=order_id, items=(Item(sku="widget", quantity=2),))
        message = aio_pika.Message(
            check.encode(), type=CHECK_TYPE, correlation_id=order_id, reply_to=replies.name, headers={}
        )

        await (await channel.get_exchange("orders")).publish(message, "inventory.check")
        eventually(lambda: "attempt 1 failed" in worker.log, what="a failed attempt")
        in_the_way = await replies.get()
        assert in_the_way
        await in_the_way.ack()
        async with replies.iterator(timeout=60) as answers:
            reply = await anext(answers)
            await reply.ack()

    assert InventoryDecision.decode(reply.body) == InventoryDecision(order_id=order_id, status="success")
    assert stock_levels(worker)["widget"] == 999_998

    def attempts() -> list[Span]:
        found = [span for span in system.receiver.spans() if span.name == PROCESS]
        return sorted(found, key=lambda span: span.start_ns) if len(found) >= 2 else []

    first, *later = eventually(attempts, what="the attempts' spans")
    assert (first.status, first.attributes["error.type"]) == ("ERROR", "broker_unavailable")
    assert later[-1].attributes["delivery.outcome"] == "ack"
    assert {span.attributes["order.status"] for span in [first, *later]} == {"success"}
    _assert_each_links_to_the_one_before([first, *later])
    eventually(lambda: sum(virtual_host.queues().values()) == 0, what="queues without a rest")


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def _attempts(system: System, answer: httpx.Response, count: int) -> list[Span]:
    """Give the process spans of an order's check, all in the trace of its request, in order."""

    def are_complete(found: Sequence[Span]) -> bool:
        return any(span.kind == "SERVER" for span in found) and names(found).count(PROCESS) >= count

    spans = system.receiver.wait_for_trace(answer.headers["x-trace-id"], are_complete)
    found = [span for span in spans if span.name == PROCESS]
    assert len(found) == count
    return found


def _told(spans: Sequence[Span], name: str) -> list[object]:
    return [span.attributes.get(name) for span in spans]


def _assert_each_links_to_the_one_before(attempts: Sequence[Span]) -> None:
    for attempt, before in zip(attempts[1:], attempts, strict=False):
        linked = {link.span_id for link in attempt.links if link.attributes["link.reason"] == "previous_attempt"}
        assert before.span_id in linked


async def _take(virtual_host: VirtualHost, queue: str) -> aio_pika.abc.AbstractIncomingMessage:
    async with await aio_pika.connect(virtual_host.amqp_url) as connection:
        channel = await connection.channel()
        async with (await channel.get_queue(queue, ensure=False)).iterator(timeout=15) as messages:
            message = await anext(messages)
            await message.ack()
            return message
