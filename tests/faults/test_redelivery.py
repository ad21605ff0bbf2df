"""The worker dies by SIGKILL at each point that matters: the check comes again, the stock is taken once."""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from shared.tools.local.postgres import PrivatePostgres
from shared.tools.traces.model import Link, Span
from tests.faults.proxied_broker import ProxiedBroker, proxied
from tests.postgres import connect
from tests.receiver import names
from tests.system import Api, Service, System, VirtualHost, new_id, stock_levels

SEND, PROCESS = "send orders:inventory.check", "process orders:inventory.check"
PROCESS_REPLY = "process order-api.replies.{instance}"


@pytest.fixture
def way(virtual_host: VirtualHost) -> Iterator[ProxiedBroker]:
    """The worker's way to the broker."""
    with proxied(virtual_host.amqp_url) as way:
        yield way


@pytest.fixture
def api(system: System) -> Api:
    """An order API with a way to the broker of its own, and so long a reply timeout that the relay stays out of this."""
    api = system.start_api(REPLY_TIMEOUT="60")
    api.service.wait_until_ready()
    return api


class Order:
    """One order on its way, as a caller that names its trace sees it."""

    def __init__(self, system: System, api: Api, pool: ThreadPoolExecutor) -> None:
        self.trace_id = secrets.token_hex(16)
        caller = f"00-{self.trace_id}-{secrets.token_hex(8)}-01"
        self._receiver = system.receiver
        self._answer = pool.submit(api.submit, {"widget": 1}, new_id(), traceparent=caller)

    @property
    def outcome(self) -> tuple[int, object]:
        """Wait for the answer: the status of HTTP and of the order."""
        answer = self._answer.result(60)
        return answer.status_code, answer.json()["status"]

    def wait_for(self, is_complete: Callable[[Sequence[Span]], bool]) -> list[Span]:
        """Wait until its trace is complete."""
        return self._receiver.wait_for_trace(self.trace_id, is_complete, within=30)

    def wait_for_commit(self) -> str:
        """Wait until its reservation is committed; gives the id of the span that the commit served."""

        def of(spans: Sequence[Span]) -> list[str]:
            return [str(span.parent_span_id) for span in spans if span.name == "commit reservations"]

        found = self._receiver.wait_for_trace(
            self.trace_id, lambda spans: bool(of(spans)), within=30, with_commits=True
        )
        return of(found)[0]

    def attempt(self, number: int) -> Span:
        """Wait for the process span of an attempt."""

        def of(spans: Sequence[Span]) -> list[Span]:
            processed = [span for span in spans if span.name == PROCESS]
            return [span for span in processed if span.attributes["delivery.attempt"] == number]

        (found,) = of(self.wait_for(lambda spans: bool(of(spans))))
        return found


@pytest.fixture
def order(system: System, api: Api, way: ProxiedBroker) -> Iterator[Callable[[], Order]]:
    """Place an order and do not wait for its answer."""
    with ThreadPoolExecutor() as pool:
        try:
            yield lambda: Order(system, api, pool)
        finally:
            api.service.kill()


def test_killed_between_the_commit_and_the_reply_the_next_attempt_replies_what_was_decided(
    system: System, way: ProxiedBroker, order: Callable[[], Order]
) -> None:
    """What the worker sends stays on its way: it gets the check and commits, but its reply does not reach the broker. Then it
    is killed, the broker sees the connection close, and hands the check out again."""
    first = system.start_worker(AMQP_URL=way.amqp_url).wait_until_ready()
    way.stall(to_broker=True, to_client=False)
    placed = order()
    committed = placed.wait_for_commit()
    _kill(first, way)

    second = system.start_worker().wait_until_ready()

    assert placed.outcome == (201, "success")
    assert stock_levels(second)["widget"] == 999_999
    attempt = placed.attempt(2)
    assert attempt.attributes["delivery.redelivered"] is True
    assert attempt.attributes["delivery.outcome"] == "ack"
    (previous,) = _links(attempt, "previous_attempt")
    assert (previous.trace_id, previous.span_id) == (placed.trace_id, committed)
    spans = placed.wait_for(lambda found: PROCESS_REPLY in names(found) and "POST /orders" in names(found))
    (send,) = (span for span in spans if span.name == SEND)
    assert attempt.parent_span_id == send.span_id
    assert names(spans).count(PROCESS_REPLY) == 1


def test_killed_between_the_reply_and_the_ack_the_order_gets_its_outcome_once(
    system: System, way: ProxiedBroker, order: Callable[[], Order]
) -> None:
    """The way to the broker is slow. Once the reply has passed, nothing passes in that direction any more: the confirm comes
    back to the worker, its ack is lost on the way, and it is killed. For the worker all was done, for the broker it was not."""
    first = system.start_worker(AMQP_URL=way.amqp_url).wait_until_ready()
    way.slow(0.7)
    placed = order()
    answered = placed.outcome
    way.stall(to_broker=True, to_client=False)
    decided = placed.attempt(1)
    _kill(first, way)

    second = system.start_worker().wait_until_ready()

    assert answered == (201, "success")
    attempt = placed.attempt(2)
    assert decided.attributes["delivery.outcome"] == "ack"
    assert attempt.attributes["delivery.redelivered"] is True
    (previous,) = _links(attempt, "previous_attempt")
    assert previous.span_id == decided.span_id == placed.wait_for_commit()
    assert stock_levels(second)["widget"] == 999_999
    spans = placed.wait_for(lambda found: names(found).count(PROCESS_REPLY) == 2)
    replies = [span.attributes["delivery.reply"] for span in spans if span.name == PROCESS_REPLY]
    assert replies == ["matched", "duplicate"]


def test_killed_while_it_waits_to_begin_its_transaction_the_next_attempt_decides(
    system: System, order: Callable[[], Order]
) -> None:
    """Another process holds the write lock of the SQLite file, so the worker has the check but cannot begin."""
    first = system.start_worker().wait_until_ready()
    with closing(sqlite3.connect(system.directory / "inventory.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        placed = order()
        placed.wait_for(lambda found: SEND in names(found))  # confirmed; the worker, idle, gets it within milliseconds
        first.kill()

    second = system.start_worker().wait_until_ready()

    assert placed.outcome == (201, "success")
    assert stock_levels(second)["widget"] == 999_999
    attempt = placed.attempt(2)
    assert attempt.attributes["delivery.redelivered"] is True
    assert not _links(attempt, "previous_attempt"), "the attempt before it has decided nothing"
    assert placed.wait_for_commit() == attempt.span_id


def test_killed_in_the_middle_of_its_transaction_the_next_attempt_decides(
    system: System, postgres: PrivatePostgres, order: Callable[[], Order]
) -> None:
    """Another transaction holds the row of the stock, so the worker's own is open and waits for it in PostgreSQL when the
    worker is killed. The server notices the closed connection and rolls back."""
    with postgres.database() as url:
        first = system.start_worker(DATABASE_URL=url).wait_until_ready()
        placed = asyncio.run(_kill_while_waiting_for_the_row(url, order, first))

        second = system.start_worker(DATABASE_URL=url).wait_until_ready()

        assert placed.outcome == (201, "success")
        assert stock_levels(second)["widget"] == 999_999
        attempt = placed.attempt(2)
        assert attempt.attributes["delivery.redelivered"] is True
        assert not _links(attempt, "previous_attempt")
        assert placed.wait_for_commit() == attempt.span_id
        second.end()


async def _kill_while_waiting_for_the_row(url: str, order: Callable[[], Order], worker: Service) -> Order:
    holder, witness = await connect(url), await connect(url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT * FROM stock WHERE sku = 'widget' FOR UPDATE")
            placed = order()
            async with asyncio.timeout(15):
                while not await witness.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                ):
                    await asyncio.sleep(0.02)
            worker.kill()
    finally:
        await holder.close()
        await witness.close()
    return placed


def _kill(worker: Service, way: ProxiedBroker) -> None:
    """Kill a worker, and have what it had sent and what was held back on the way die with it."""
    worker.kill()
    way.cut()


def _links(span: Span, reason: str) -> list[Link]:
    return [link for link in span.links if link.attributes["link.reason"] == reason]
