"""PostgreSQL: several instances share a database, and the database goes away and comes back."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import aio_pika
import httpx
import pytest

from shared.contract.messages import CHECK_TYPE
from shared.tools.local.postgres import PrivatePostgres
from tests.postgres import connect, private_postgres
from tests.processes import running_processes
from tests.system import Api, System, VirtualHost, new_id, order_body, stock_levels
from tests.waiting import eventually

INITIAL = 1_000_000


@pytest.fixture
def own_postgres() -> Iterator[PrivatePostgres]:
    """A server that this test alone may kill."""
    with TemporaryDirectory(prefix="traced-orders-postgres-") as directory, private_postgres(Path(directory)) as server:
        yield server


async def test_two_apis_and_two_workers_on_shared_databases_lose_and_double_nothing(
    system: System, postgres: PrivatePostgres
) -> None:
    with postgres.database() as orders_url, postgres.database() as inventory_url:
        workers = [system.start_worker(DATABASE_URL=inventory_url) for _ in range(2)]
        apis = [system.start_api(DATABASE_URL=orders_url, REPLY_TIMEOUT="10") for _ in range(2)]
        for service in (*workers, *(api.service for api in apis)):
            service.wait_until_ready()
        quantities = {new_id(): number % 5 + 1 for number in range(200)}

        async def submit(http: httpx.AsyncClient, order_id: str, api: Api) -> httpx.Response:
            return await http.post(
                f"{api.service.url}/orders",
                json=order_body({"widget": quantities[order_id], "gadget": 1}, order_id),
            )

        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            # Every order at both instances at the same time, half of them twice at one.
            answers = await asyncio.gather(
                *(
                    submit(http, order_id, api)
                    for number, order_id in enumerate(quantities)
                    for api in (*apis, *apis[: number % 2])
                )
            )

        # A repeat at the other instance hears nothing of the reply: it reads the outcome at the end of its wait.
        assert {answer.status_code for answer in answers} <= {200, 201, 202}
        outcomes = {order_id: apis[0].wait_for_outcome(order_id) for order_id in quantities}
        for answer in answers:
            told, outcome = answer.json(), outcomes[answer.json()["order_id"]]
            assert told["status"] in {"pending", outcome["status"]}
            assert told["trace_id"] == outcome["trace_id"]
        assert {order_id: apis[1].read(order_id)["status"] for order_id in outcomes} == {
            order_id: order["status"] for order_id, order in outcomes.items()
        }
        taken = [order_id for order_id, order in outcomes.items() if order["status"] == "success"]
        assert len(taken) == 3  # gadget has three: of many that ask at once, three get one each
        levels = stock_levels(workers[0])
        assert levels == {"gadget": 0, "widget": INITIAL - sum(quantities[order_id] for order_id in taken)}
        await _assert_recorded_once(orders_url, "SELECT order_id, status FROM orders", quantities)
        await _assert_recorded_once(inventory_url, "SELECT order_id, status FROM decisions", quantities)


def test_while_postgresql_is_away_orders_are_refused_and_after_it_they_are_taken_again(
    system: System, own_postgres: PrivatePostgres
) -> None:
    """The server is killed as by a crash, and the pools keep connections that nobody serves; then it starts again."""
    with own_postgres.database() as url:
        worker = system.start_worker().wait_until_ready()
        api = system.start_api(DATABASE_URL=url, REPLY_TIMEOUT="30")
        api.service.wait_until_ready()
        placed = [_order_of(api.submit({"widget": 1})) for _ in range(10)]

        own_postgres.kill()
        refused = {order_id: api.submit({"widget": 1}, order_id) for order_id in (new_id(), new_id(), new_id())}
        reading = api.http.get(f"/orders/{placed[0]}")
        unready = api.http.get("/ready")
        stock_meanwhile = stock_levels(worker)["widget"]
        own_postgres.start()
        api.service.wait_until_ready()

        for answer in (*refused.values(), reading):
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
        assert unready.status_code == 503
        assert list(unready.json()["unavailable"]) == ["database"]
        assert api.http.get("/health").status_code == 200
        assert stock_meanwhile == INITIAL - 10
        assert [api.http.get(f"/orders/{order_id}").status_code for order_id in refused] == [404] * 3
        # What was answered before the crash was committed for good.
        assert {api.read(order_id)["status"] for order_id in placed} == {"success"}
        assert api.submit({"widget": 1}).status_code == 201
        assert stock_levels(worker)["widget"] == INITIAL - 11
        assert "Traceback" not in api.service.log


def test_replies_that_find_no_database_are_held_until_they_can_be_recorded_and_nothing_is_asked_again(
    system: System, own_postgres: PrivatePostgres
) -> None:
    """The API's database dies between an order and its reply: the worker is paused, so that the reply comes too late.

    The API answers 202, for the order is stored. The reply finds no database and is held; once that is back, it is recorded.
    """
    with own_postgres.database() as url:
        worker = system.start_worker().wait_until_ready()
        api = system.start_api(DATABASE_URL=url, REPLY_TIMEOUT="2")
        api.service.wait_until_ready()

        with ThreadPoolExecutor(20) as callers:
            with worker.paused():
                answering = [callers.submit(api.submit, {"widget": 1}) for _ in range(20)]
                eventually(lambda: _stored(own_postgres, url) == 20, what="twenty stored orders")
                own_postgres.kill()
            eventually(lambda: stock_levels(worker)["widget"] == INITIAL - 20, what="the decisions")
            answers = [each.result(60) for each in answering]
        own_postgres.start()
        outcomes = [api.wait_for_outcome(_order_of(answer), within=60) for answer in answers]

    assert {answer.status_code for answer in answers} == {202}
    assert {order["status"] for order in outcomes} == {"success"}
    assert stock_levels(worker)["widget"] == INITIAL - 20
    assert "the database is away" in api.service.log
    for answer in answers:
        trace = system.receiver.wait_for_trace(
            answer.headers["x-trace-id"],
            lambda found: any(span.name == "process order-api.replies.{instance}" for span in found),
        )
        (reply,) = (span for span in trace if span.name == "process order-api.replies.{instance}")
        assert (reply.status, reply.attributes["delivery.reply"]) == ("UNSET", "late")
        assert sum(span.name == "send orders:inventory.check" for span in trace) == 1


def test_a_postgresql_that_has_stopped_to_answer_costs_time_but_holds_nothing_up_for_ever(
    system: System, own_postgres: PrivatePostgres
) -> None:
    """Every process of the server is stopped: connections stay open and accepted, and nobody reads them."""
    with own_postgres.database() as url:
        worker = system.start_worker().wait_until_ready()
        api = system.start_api(DATABASE_URL=url)
        api.service.wait_until_ready()
        api.submit({"widget": 1}).raise_for_status()

        _signal(own_postgres, signal.SIGSTOP)
        try:
            refused = api.submit({"widget": 1})
            unready = api.http.get("/ready")
        finally:
            _signal(own_postgres, signal.SIGCONT)
        api.service.wait_until_ready()

        assert refused.status_code == 503
        assert list(unready.json()["unavailable"]) == ["database"]
        assert api.submit({"widget": 1}).status_code == 201
        assert stock_levels(worker)["widget"] <= INITIAL - 2


async def test_poison_whose_correlation_id_postgresql_cannot_hold_is_settled(
    system: System, virtual_host: VirtualHost, postgres: PrivatePostgres
) -> None:
    """PostgreSQL's text has no NUL, so looking for a decision on such an order would fail where SQLite finds nothing."""
    with postgres.database() as url:
        worker = system.start_worker(DATABASE_URL=url).wait_until_ready()
        async with await aio_pika.connect(virtual_host.amqp_url) as connection:
            channel = await connection.channel()
            replies = await channel.declare_queue(exclusive=True)
            poison = aio_pika.Message(b"{}", type=CHECK_TYPE, correlation_id="O\x001", reply_to=replies.name)
            await channel.default_exchange.publish(poison, "inventory.check")
            dead = await channel.get_queue("inventory.check.dead")
            async with dead.iterator(timeout=20) as letters:
                letter = await anext(letters)
                await letter.ack()
            worker.end()
            given_back = await channel.declare_queue("inventory.check", passive=True)

    assert letter.headers["x-dead-letter-reason"] == "malformed"
    assert given_back.declaration_result.message_count == 0
    assert "Traceback" not in worker.log


async def _assert_recorded_once(url: str, query: str, orders: dict[str, int]) -> None:
    connection = await connect(url)
    try:
        found = Counter((row["order_id"], row["status"]) for row in await connection.fetch(query))
    finally:
        await connection.close()
    assert {order_id for order_id, _ in found} == orders.keys()
    assert set(found.values()) == {1}
    assert Counter(status for _, status in found) == {"success": 3, "out_of_stock": len(orders) - 3}


def _stored(server: PrivatePostgres, url: str) -> int:
    async def count() -> int:
        connection = await connect(url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM orders"))
        finally:
            await connection.close()

    return asyncio.run(count())


def _order_of(answer: httpx.Response) -> str:
    return str(answer.json()["order_id"])


def _signal(server: PrivatePostgres, number: signal.Signals) -> None:
    """Signal the server and its children, each of which has a process group of its own."""
    processes = running_processes()
    (postmaster,) = (
        pid for pid, _, command in processes if "/postgres -D" in command and f"-p {server.port} " in command
    )
    for pid in [postmaster, *(pid for pid, parent, _ in processes if parent == postmaster)]:
        os.kill(pid, number)
