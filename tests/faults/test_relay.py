"""Orders whose question or reply got lost: the relay asks again, one instance at a time, with growing pauses."""

import asyncio
import secrets
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx

from shared.tools.traces.model import Span
from tests.faults.proxied_broker import proxied
from tests.http_client import HttpClient
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


async def test_of_300_checks_that_could_not_be_sent_two_instances_on_one_database_send_each_once(
    system: System, virtual_host: VirtualHost, database_url: str
) -> None:
    """No connection to the broker comes about while two APIs take 300 orders. Then both connect in the same moment, and both
    look for what is to be sent."""
    with proxied(virtual_host.amqp_url) as way:
        apis = [system.start_api(AMQP_URL=way.amqp_url, DATABASE_URL=database_url) for _ in range(2)]
        for api in apis:
            api.service.wait_until_ready()
        way.refuse()
        way.cut()
        for api in apis:
            eventually(lambda api=api: not api.service.is_ready(), what="the notice of the cut")  # type: ignore[misc]
        orders = [new_id() for _ in range(300)]
        clients = [HttpClient(api.service.url) for api in apis]
        answers = await asyncio.gather(
            *(
                clients[n % 2].request("POST", "/orders", order_body({"widget": 1}, order_id))
                for n, order_id in enumerate(orders)
            )
        )
        for client in clients:
            await client.close()
        assert {answer.code for answer in answers} == {202}

        way.accept()
        worker = await asyncio.to_thread(system.start_worker().wait_until_ready)
        outcomes = {str(apis[0].wait_for_outcome(order_id, within=60)["status"]) for order_id in orders}

        assert outcomes == {"success"}
        assert stock_levels(worker)["widget"] == 1_000_000 - len(orders)
        trace_ids = [str(answer.header("x-trace-id")) for answer in answers]
        sends = eventually(lambda: _sends(system, trace_ids, 1), what="every send span")
        assert {len(spans) for spans in sends.values()} == {1}
        for service in (*(api.service for api in apis), worker):
            service.end()


def test_a_confirmed_check_that_was_lost_is_sent_again_once_a_later_one_has_been_replied_to(
    system: System, virtual_host: VirtualHost
) -> None:
    """A queue is purged by hand with ten checks in it. Their age brings none of them back, the reply to an order that is
    placed after them does."""
    api = system.start_api(REPLY_TIMEOUT="0.1")
    api.service.wait_until_ready()
    lost = [api.submit({"widget": 1}) for _ in range(10)]
    with _orders(system) as database:
        eventually(lambda: _count(database, "published_at IS NOT NULL") == 10, what="the notes that they are confirmed")
        virtual_host.api.delete(f"/queues/{virtual_host.name}/inventory.check/contents").raise_for_status()
        database.execute("UPDATE orders SET ask_at = 1, published_at = published_at - 60")
        # Claimed as the probe, one of them would be the evidence itself.
        eventually(lambda: _count(database, "ask_at > 1") == 1, what="the probe")
    virtual_host.api.delete(f"/queues/{virtual_host.name}/inventory.check/contents").raise_for_status()

    worker = system.start_worker().wait_until_ready()
    later = api.submit({"widget": 1})

    for answer in (later, *lost):
        assert api.wait_for_outcome(str(answer.json()["order_id"]), within=90)["status"] == "success"
    assert stock_levels(worker)["widget"] == 1_000_000 - 11
    sends = eventually(lambda: _sends(system, _traces(lost), 2), what="every send span")
    assert max(map(len, sends.values())) <= 3
    for spans in sends.values():
        assert len({span.parent_span_id for span in spans}) == 1, "every check is a child of the one request"


def test_where_nothing_later_is_under_way_one_check_is_sent_as_a_probe_and_its_reply_brings_back_the_rest(
    system: System, virtual_host: VirtualHost
) -> None:
    """As above, but nobody places an order any more."""
    api = system.start_api(REPLY_TIMEOUT="0.1")
    api.service.wait_until_ready()
    lost = [api.submit({"widget": 1}) for _ in range(10)]
    with _orders(system) as database:
        eventually(lambda: _count(database, "published_at IS NOT NULL") == 10, what="the notes that they are confirmed")
        virtual_host.api.delete(f"/queues/{virtual_host.name}/inventory.check/contents").raise_for_status()
        database.execute("UPDATE orders SET ask_at = 1, published_at = published_at - 60")

    worker = system.start_worker().wait_until_ready()

    outcomes = {api.wait_for_outcome(str(answer.json()["order_id"]), within=90)["status"] for answer in lost}
    assert outcomes == {"success"}
    assert stock_levels(worker)["widget"] == 1_000_000 - 10
    sends = eventually(lambda: _sends(system, _traces(lost), 2), what="every send span")
    assert {len(spans) for spans in sends.values()} == {2}


def _traces(answers: Sequence[httpx.Response]) -> list[str]:
    return [answer.headers["x-trace-id"] for answer in answers]


def _sends(system: System, trace_ids: Sequence[str], count: int) -> dict[str, list[Span]] | None:
    """Give the send spans of the orders' checks by trace, once each trace has so many."""
    found: dict[str, list[Span]] = {trace_id: [] for trace_id in trace_ids}
    for span in system.receiver.spans():
        if span.name == SEND and span.trace_id in found:
            found[span.trace_id].append(span)
    return found if min(map(len, found.values())) >= count else None


@contextmanager
def _orders(system: System) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(system.directory / "orders.db", isolation_level=None, timeout=10)) as database:
        yield database


def _count(database: sqlite3.Connection, condition: str) -> int:
    found: tuple[int] = database.execute(f"SELECT count(*) FROM orders WHERE {condition}").fetchone()
    return found[0]


def _links(span: Span) -> dict[object, str]:
    return {link.attributes["link.reason"]: link.span_id for link in span.links}
