"""Retries: what may pass with time is tried again, later each time, and not for ever."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import aio_pika
import httpx

from shared.contract.messages import CHECK_TYPE, CheckInventory, InventoryDecision, Item
from shared.tools.local.postgres import PrivatePostgres
from shared.tools.traces.model import Span
from tests.postgres import connect
from tests.receiver import names
from tests.sqlite_lock import locked
from tests.system import System, VirtualHost, new_id, stock_levels
from tests.waiting import eventually

PROCESS = "process orders:inventory.check"
PATIENT = {"REPLY_TIMEOUT": "100"}
"""Longer than all retries: the request waits for them, and the relay, which waits twice as long, stays out of the trace."""


def test_a_check_that_finds_the_database_locked_is_held_until_it_takes_its_stock_and_is_no_failure(
    system: System, virtual_host: VirtualHost
) -> None:
    """Another process holds the write lock of the worker's SQLite file for 3 s, as a backup or a forgotten shell does.

    The database is away for every check, so this one is held where it is, and brought no nearer to any limit.
    """
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(**PATIENT)
    api.service.wait_until_ready()

    with ThreadPoolExecutor(1) as caller:
        with locked(system.directory / "inventory.db"):
            answering = caller.submit(api.submit, {"widget": 1}, new_id())
            eventually(lambda: "the database is away" in worker.log, within=60, what="a worker that stops consuming")
            unready = httpx.get(f"{worker.url}/ready", trust_env=False, timeout=30)
            time.sleep(3)
        answer = answering.result(60)

    assert unready.status_code == 503
    assert list(unready.json()["unavailable"]) == ["database"]
    assert (answer.status_code, answer.json()["status"]) == (201, "success")
    assert stock_levels(worker)["widget"] == 999_999
    (attempt,) = _attempts(system, answer, 1)
    assert attempt.attributes["delivery.attempt"] == 1
    assert attempt.attributes["delivery.outcome"] == "ack"
    eventually(lambda: sum(virtual_host.queues().values()) == 0, what="queues without a rest")


def test_a_check_that_fails_while_others_succeed_is_tried_later_and_later_until_it_takes_its_stock_once(
    system: System, virtual_host: VirtualHost, postgres: PrivatePostgres
) -> None:
    """A trigger in the worker's PostgreSQL raises for one SKU, and is dropped while the check waits for its third attempt."""
    with postgres.database() as url:
        worker = system.start_worker(DATABASE_URL=url, RETRY_DELAYS="0.5,2,8").wait_until_ready()
        api = system.start_api(**PATIENT)
        api.service.wait_until_ready()
        asyncio.run(_run(url, BREAK_GADGETS))

        with ThreadPoolExecutor(1) as caller:
            answering = caller.submit(api.submit, {"gadget": 1})
            eventually(lambda: "attempt 1 failed" in worker.log, within=60, what="a failed attempt")
            others = [api.submit({"widget": 1}).json()["status"] for _ in range(20)]
            eventually(lambda: "attempt 2 failed" in worker.log, within=60, what="a second failed attempt")
            asyncio.run(_run(url, "DROP TRIGGER broken ON stock"))
            answer = answering.result(60)

        assert others == ["success"] * 20
        assert (answer.status_code, answer.json()["status"]) == (201, "success")
        assert stock_levels(worker)["gadget"] == 2
        attempts = _attempts(system, answer, 3)
        assert _told(attempts, "delivery.attempt") == [1, 2, 3]
        assert _told(attempts, "delivery.outcome") == ["retry", "retry", "ack"]
        assert _told(attempts, "delivery.redelivered") == [False] * 3  # each is a message of its own
        assert [span.status for span in attempts] == ["ERROR", "ERROR", "UNSET"]
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
        worker.end()


async def test_a_check_that_fails_in_every_retry_is_a_dead_letter_and_its_order_an_error(
    system: System, virtual_host: VirtualHost, postgres: PrivatePostgres
) -> None:
    """A trigger in the worker's PostgreSQL raises for one SKU and stays; three delays stand for the hours of the default."""
    with postgres.database() as url:
        worker = system.start_worker(DATABASE_URL=url, RETRY_DELAYS="0.2,0.4,0.8").wait_until_ready()
        api = system.start_api(**PATIENT)
        api.service.wait_until_ready()
        api.http.timeout = 100
        await _run(url, BREAK_GADGETS)

        answer = await asyncio.to_thread(api.submit, {"gadget": 1})
        letter = await _take(virtual_host, "inventory.check.dead")
        worker.end()

    assert (answer.status_code, answer.json()["status"]) == (201, "error")
    assert answer.json()["reason"] == "dead_letter: retries_exhausted"
    attempts = _attempts(system, answer, 4)
    assert _told(attempts, "delivery.attempt") == [1, 2, 3, 4]
    assert _told(attempts, "delivery.outcome") == ["retry"] * 3 + ["dead_letter"]
    assert [span.status for span in attempts] == ["ERROR"] * 4
    _assert_each_links_to_the_one_before(attempts)
    assert letter.headers["x-dead-letter-reason"] == "retries_exhausted"
    assert letter.headers["x-dead-letter-origin"] == "inventory.check"
    assert letter.headers["x-dead-letter-attempts"] == 4
    assert letter.headers["x-dead-letter-detail"]
    assert str(letter.headers["traceparent"])[3:35] == attempts[0].trace_id
    assert str(letter.headers["x-previous-attempt"])[36:52] == attempts[3].span_id
    assert (letter.correlation_id, letter.type) == (answer.json()["order_id"], CHECK_TYPE)
    assert CheckInventory.decode(letter.body).order_id == answer.json()["order_id"]
    eventually(lambda: sum(virtual_host.queues().values()) == 0, what="queues without a rest")


async def test_a_reply_that_its_queue_refuses_leaves_the_decision_recorded_and_the_connection_alone(
    system: System, virtual_host: VirtualHost
) -> None:
    """The asker's reply queue is full and rejects publishes: the broker answers the worker's reply with a nack.

    The decision is committed by then, the check is settled, and who asks again gets it.
    """
    worker = system.start_worker().wait_until_ready()
    order_id = new_id()
    check = CheckInventory(order_id=order_id, items=(Item(sku="widget", quantity=2),))
    async with await aio_pika.connect(virtual_host.amqp_url) as connection:
        channel = await connection.channel()
        full = await channel.declare_queue(
            "amq_full", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await channel.default_exchange.publish(aio_pika.Message(b"in the way"), full.name)
        orders = await channel.get_exchange("orders")

        def message(reply_to: str) -> aio_pika.Message:
            return aio_pika.Message(
                check.encode(), type=CHECK_TYPE, correlation_id=order_id, reply_to=reply_to, headers={}
            )

        await orders.publish(message(full.name), "inventory.check")
        (first,) = await asyncio.to_thread(_processed, system, 1)
        replies = await channel.declare_queue(exclusive=True)
        await orders.publish(message(replies.name), "inventory.check")
        async with replies.iterator(timeout=60) as answers:
            reply = await anext(answers)
            await reply.ack()

    assert InventoryDecision.decode(reply.body) == InventoryDecision(order_id=order_id, status="success")
    assert stock_levels(worker)["widget"] == 999_998
    assert (first.status, first.attributes["error.type"]) == ("ERROR", "refused")
    assert {first.attributes["delivery.outcome"], first.attributes["order.status"]} == {"ack", "success"}
    assert worker.log.count("connected to RabbitMQ at") == 2, "the connections that it began with"
    assert "connection to RabbitMQ lost" not in worker.log
    eventually(lambda: sum(virtual_host.queues().values()) == 0, what="queues without a rest")


BREAK_GADGETS = """
CREATE FUNCTION break_gadgets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.sku = 'gadget' THEN RAISE EXCEPTION 'gadgets are broken'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER broken BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION break_gadgets()
"""


async def _run(url: str, sql: str) -> None:
    connection = await connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def _processed(system: System, count: int) -> list[Span]:
    def found() -> list[Span]:
        spans = [span for span in system.receiver.spans() if span.name == PROCESS]
        return sorted(spans, key=lambda span: span.start_ns) if len(spans) >= count else []

    return eventually(found, what=f"{count} process spans")


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
