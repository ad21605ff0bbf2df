"""The floor of the benchmarks keeps the promises that it is measured for, and makes the spans."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import httpx
import pytest

from benchmarks.systems import Setting, floor
from shared.tools.traces.model import Span
from tests.receiver import Receiver
from tests.system import TestBroker, new_id
from tests.waiting import eventually

SERVER = "POST /orders/create"
SEND, PROCESS = "send floor:floor.check", "process floor:floor.check"
SEND_REPLY, PROCESS_REPLY = "send floor.replies.{instance}", "process floor.replies.{instance}"
PARENTS = {
    SERVER: None,
    SEND: SERVER,
    PROCESS: SEND,
    SEND_REPLY: PROCESS,
    PROCESS_REPLY: SEND_REPLY,
    "commit reservations": PROCESS,
}
LINKS = {
    SERVER: {"reply": PROCESS_REPLY},
    PROCESS: {"creation_context": SEND},
    PROCESS_REPLY: {"creation_context": SEND_REPLY},
}
STOCK = 1_000_000_000


@dataclass(frozen=True)
class Floor:
    """The floor, running."""

    url: str
    amqp_url: str
    directory: Path
    receiver: Receiver

    def place(self, order_id: str) -> httpx.Response:
        return httpx.post(f"{self.url}/orders/create", params={"order_id": order_id}, timeout=60, trust_env=False)

    def ask(self, file: str, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.directory / file)) as connection:
            return connection.execute(statement, values).fetchall()

    def taken(self) -> int:
        ((available,),) = self.ask("inventory.db", "SELECT available FROM stock WHERE sku = 'widget'")
        assert isinstance(available, int)
        return STOCK - available


@pytest.fixture(scope="module")
def running(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    directory = tmp_path_factory.mktemp("floor")
    with broker.virtual_host() as host, Receiver() as receiver:
        setting = Setting(host.amqp_url, receiver.url, "root@example.com", "Traced-orders-1", directory)
        with floor(setting, OTEL_BSP_SCHEDULE_DELAY="100") as system:
            yield Floor(system.urls[0], host.amqp_url, directory, receiver)


def test_an_order_is_stored_and_its_stock_taken_before_it_is_answered(running: Floor) -> None:
    order_id, before = new_id(), running.taken()

    answer = running.place(order_id)

    assert (answer.status_code, answer.json()) == (200, {"status": "success", "order_id": order_id})
    assert running.ask("orders.db", "SELECT status FROM orders WHERE order_id = ?", order_id) == [("success",)]
    assert running.ask("inventory.db", "SELECT status FROM decisions WHERE order_id = ?", order_id) == [("success",)]
    assert running.taken() == before + 1


def test_a_repeated_order_gets_the_first_ones_outcome_and_takes_nothing(running: Floor) -> None:
    order_id = new_id()
    running.place(order_id)
    before = running.taken()

    answer = running.place(order_id)

    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert running.taken() == before


async def test_a_check_that_comes_twice_takes_stock_once_and_is_replied_to_twice(running: Floor) -> None:
    order_id, before = new_id(), running.taken()
    body = f'{{"order_id": "{order_id}", "items": [{{"sku": "widget", "quantity": 3}}]}}'.encode()

    async with await aio_pika.connect(running.amqp_url) as connection, connection.channel() as channel:
        replies = await channel.declare_queue(exclusive=True)
        for _ in range(2):
            check = aio_pika.Message(
                body,
                correlation_id=order_id,
                message_id=new_id(),
                reply_to=replies.name,
                headers={"x-published-at-us": 0},
            )
            await (await channel.get_exchange("floor")).publish(check, "floor.check")
        async with replies.iterator(timeout=60) as found:
            decisions = [(await anext(found)).body for _ in range(2)]

    assert len(set(decisions)) == 1
    assert running.taken() == before + 3


def test_an_order_is_one_trace_with_the_spans_and_links_of_the_product(running: Floor) -> None:
    answer = running.place(new_id())
    trace_id = answer.headers["x-trace-id"]

    spans = running.receiver.wait_for_trace(
        trace_id, lambda found: len(found) >= len(PARENTS) + 2, within=60, with_commits=True
    )

    names = {span.span_id: span.name for span in spans}
    by_name = {span.name: span for span in spans}
    assert {name: names.get(by_name[name].parent_span_id or "") for name in PARENTS} == PARENTS
    assert {name: _links(by_name[name], names) for name in LINKS} == LINKS
    commits = [span for span in spans if span.name == "commit orders"]
    assert {names[span.parent_span_id or ""] for span in commits} == {SERVER, PROCESS_REPLY}
    assert {span.kind for span in spans if span.name.startswith("commit ")} == {"CLIENT"}
    assert by_name[PROCESS].attributes["delivery.attempt"] == 1


def test_a_transaction_that_serves_several_orders_links_to_each(running: Floor) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert {answer.status_code for answer in threads.map(running.place, [new_id() for _ in range(64)])} == {200}

    def shared_commit() -> list[Span]:
        return [
            span
            for span in running.receiver.spans()
            if span.name == "commit orders" and len(span.links) > 1 and span.parent_span_id is None
        ]

    commit = eventually(shared_commit, within=60, what="a commit that served several")[0]

    assert commit.attributes["db.operation.batch.size"] == len(commit.links)
    assert {link.attributes["link.reason"] for link in commit.links} == {"batch_member"}


def _links(span: Span, names: dict[str, str]) -> dict[str, str]:
    return {str(link.attributes["link.reason"]): names[link.span_id] for link in span.links}
