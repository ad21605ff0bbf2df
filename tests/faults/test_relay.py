"""Orders whose question or reply got lost: the relay asks again, one instance at a time, with growing pauses."""

import asyncio
import secrets
import signal
import sqlite3
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import pairwise

import httpx
import pytest

from shared.tools.traces.model import Span
from tests.receiver import names
from tests.system import System, VirtualHost, new_id, order_body, stock_levels
from tests.waiting import eventually

SEND, PROCESS = "send orders:inventory.check", "process orders:inventory.check"
SEND_REPLY, PROCESS_REPLY = "send order-api.replies.{instance}", "process order-api.replies.{instance}"
SEND_SHARED, PROCESS_SHARED = "send order-api.replies.shared", "process order-api.replies.shared"


def test_an_order_whose_reply_died_with_its_api_is_completed_by_the_next_process_in_the_same_trace(
    system: System,
) -> None:
    """The API is stopped after asking, the reply reaches its exclusive queue, and SIGKILL ends it: the broker deletes the
    queue with the reply in it. All that is left of the order is its row, which holds the trace context."""
    caller = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    trace_id, order_id = caller[3:35], new_id()
    first = system.start_api(REPLY_TIMEOUT="30")
    first.service.wait_until_ready()
    with ThreadPoolExecutor() as pool:
        request = pool.submit(first.submit, {"widget": 1}, order_id, traceparent=caller)
        system.receiver.wait_for_trace(trace_id, lambda found: SEND in names(found))

        first.service.signal(signal.SIGSTOP)
        worker = system.start_worker().wait_until_ready()
        system.receiver.wait_for_trace(trace_id, lambda found: SEND_REPLY in names(found))
        first.service.kill()
        assert isinstance(request.exception(30), httpx.HTTPError), "the caller is not told anything"
    with closing(sqlite3.connect(system.directory / "orders.db")) as database, database:
        # The pause before the next question depends on the reply timeout; this test does not want to wait for it.
        database.execute("UPDATE orders SET ask_at = ?", (time.time(),))
    second = system.start_api()
    second.service.wait_until_ready()
    order = second.wait_for_outcome(order_id)

    assert order["status"] == "success"
    assert order["trace_id"] == trace_id
    assert stock_levels(worker)["widget"] == 999_999
    spans = system.receiver.wait_for_trace(
        trace_id, lambda found: PROCESS_REPLY in names(found) and names(found).count(PROCESS) == 2
    )
    first_send, second_send = (span for span in spans if span.name == SEND)
    first_process, second_process = (span for span in spans if span.name == PROCESS)
    assert first_send.resource["service.instance.id"] != second_send.resource["service.instance.id"]
    assert first_send.parent_span_id == second_send.parent_span_id, "the span of the request that died"
    assert second_process.parent_span_id == second_send.span_id
    assert _links(second_process)["previous_attempt"] == first_process.span_id
    (reply,) = (span for span in spans if span.name == PROCESS_REPLY)
    assert reply.attributes["delivery.reply"] == "late"
    assert _links(reply)["late_reply_to"] == first_send.parent_span_id


def test_a_reply_to_an_instance_that_is_gone_completes_the_order_through_another_one(
    system: System, virtual_host: VirtualHost
) -> None:
    """The API dies by SIGKILL while its question waits in the queue. Its exclusive reply queue goes with its connection, the
    broker returns the reply as unroutable, and the worker sends it to the shared reply queue."""
    caller = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    trace_id, order_id = caller[3:35], new_id()
    asking = system.start_api(REPLY_TIMEOUT="60")
    asking.service.wait_until_ready()
    with ThreadPoolExecutor() as pool:
        request = pool.submit(asking.submit, {"widget": 1}, order_id, traceparent=caller)
        system.receiver.wait_for_trace(trace_id, lambda found: SEND in names(found))
        asking.service.kill()
        assert isinstance(request.exception(30), httpx.HTTPError)
    own = [name for name in virtual_host.queues() if name.startswith("order-api.replies.") and "shared" not in name]
    eventually(lambda: not set(own) & virtual_host.queues().keys(), what="the end of the reply queue")

    other = system.start_api(REPLY_TIMEOUT="60")
    other.service.wait_until_ready()
    worker = system.start_worker()
    order = other.wait_for_outcome(order_id)

    assert order["status"] == "success"
    assert stock_levels(worker)["widget"] == 999_999
    spans = system.receiver.wait_for_trace(
        trace_id, lambda found: {PROCESS, PROCESS_SHARED} <= {span.name for span in found}
    )
    assert names(spans) == sorted([SEND, PROCESS, SEND_REPLY, SEND_SHARED, PROCESS_SHARED]), "one question was enough"
    by_name = {span.name: span for span in spans}
    assert by_name[PROCESS_SHARED].parent_span_id == by_name[SEND_SHARED].span_id
    assert by_name[SEND_SHARED].parent_span_id == by_name[PROCESS].span_id
    assert by_name[SEND_REPLY].failed
    assert by_name[PROCESS_SHARED].attributes["order.id"] == order_id
    assert _links(by_name[PROCESS_SHARED])["late_reply_to"] == by_name[SEND].parent_span_id


async def test_instances_that_share_a_database_never_ask_for_one_order_at_the_same_time(
    system: System, database_url: str
) -> None:
    """Two API processes on one database stand still (SIGSTOP) until every order is due, and then go on in the same moment:
    both look for unanswered orders at once."""
    pause = 5.0  # seconds from an order to the second question for it, with so short a reply timeout
    apis = [system.start_api(REPLY_TIMEOUT="0.5", DATABASE_URL=database_url) for _ in range(2)]
    for api in apis:
        api.service.wait_until_ready()
    orders = [new_id() for _ in range(300)]
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
        answers = await asyncio.gather(
            *(
                client.post(f"{apis[n % 2].service.url}/orders", json=order_body({"widget": 1}, order_id))
                for n, order_id in enumerate(orders)
            )
        )
    last = time.time()
    assert {answer.status_code for answer in answers} == {202}
    with ExitStack() as stopped:
        for api in apis:
            stopped.enter_context(api.service.paused())
        await asyncio.sleep(max(0.0, last + pause - time.time()))
    traces = {answer.headers["x-trace-id"] for answer in answers}

    def questions() -> dict[str, list[Span]] | None:
        found: dict[str, list[Span]] = defaultdict(list)
        for span in system.receiver.spans():
            if span.name == SEND and span.trace_id in traces:
                found[span.trace_id].append(span)
        return found if len(found) == len(orders) and min(map(len, found.values())) >= 2 else None

    asked = eventually(questions, within=30, what="a second question for every order")
    worker = system.start_worker().wait_until_ready()
    outcomes = {str(apis[0].wait_for_outcome(order_id, within=60)["status"]) for order_id in orders}

    assert outcomes == {"success"}
    assert stock_levels(worker)["widget"] == 1_000_000 - len(orders)
    asked = questions() or {}
    by_instance = {str(span.resource["service.instance.id"]) for spans in asked.values() for span in spans[1:]}
    assert len(by_instance) == 2, "both took their part"
    for spans in asked.values():
        # One that was not confirmed in time is asked again sooner than that, but not before its deadline has passed.
        _, *again = sorted(span.start_ns for span in spans if not span.failed)
        assert all(later - earlier > pause / 2 * 1e9 for earlier, later in pairwise(again)), again
        assert len({span.parent_span_id for span in spans}) == 1, "every question is a child of the one request"


def test_the_pauses_between_two_questions_grow_up_to_a_minute(system: System) -> None:
    """Nobody answers: there is no worker. The test moves the time of the next question to now, so as not to wait for it."""
    api = system.start_api(REPLY_TIMEOUT="0.1")
    api.service.wait_until_ready()
    api.submit({"widget": 1})
    pauses: list[float] = []

    with closing(sqlite3.connect(system.directory / "orders.db", isolation_level=None, timeout=10)) as database:

        def next_question() -> tuple[float, float]:
            found: tuple[float, float] = database.execute("SELECT ask_at, ask_delay FROM orders").fetchone()
            return found

        _, first_pause = next_question()
        for _ in range(6):
            database.execute("UPDATE orders SET ask_at = 1")
            eventually(lambda: next_question()[0] > 1, what="the next question")
            pauses.append(round(next_question()[0] - time.time()))

    assert first_pause == 5
    assert pauses == pytest.approx([5, 10, 20, 40, 60, 60], abs=2)


def _links(span: Span) -> dict[object, str]:
    return {link.attributes["link.reason"]: link.span_id for link in span.links}
