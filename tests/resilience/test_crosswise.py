"""Two order APIs on one PostgreSQL are told the same decisions in opposite order, while new orders come."""

import asyncio
from collections.abc import Sequence

import aio_pika
import pytest

from shared.tools.local.postgres import PrivatePostgres
from tests.http_client import HttpClient
from tests.resilience.databases import fetch
from tests.resilience.rig import Rig
from tests.system import new_id, order_body
from tests.waiting import eventually

DECISIONS = 40
OUTCOMES = "success", "out_of_stock"
"""Of different outcomes, as a real batch: whoever records one outcome after the other does so in the order of arrival."""
DECISION_TYPE = "inventory.decision.v1"


@pytest.mark.parametrize("rounds", [12, pytest.param(150, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_two_apis_record_the_same_decisions_crosswise_in_so_many_rounds_and_refuse_no_order(
    rig: Rig, own_postgres: PrivatePostgres, rounds: int
) -> None:
    """Replies to two instances happen where each has asked for an order of the other; the test plays the worker.

    Forty orders wait in each round; their decisions go to the reply queue of the one API forwards, to that of the other one
    backwards, at the same time, and new orders share the transactions that record them.
    """
    with own_postgres.database() as url:
        rig.start_worker().end()  # it has made the queue of the checks
        for _ in range(2):
            rig.start_api(DATABASE_URL=url, REPLY_TIMEOUT="0.05")
        queues = eventually(lambda: _two(rig.meter.reply_queues()), what="a reply queue of each API")
        deadlocks = fetch(url, _DEADLOCKS)[0][0]

        codes = asyncio.run(_record_crosswise(rig, queues, rounds))

        assert codes == {202}
        assert fetch(url, _DEADLOCKS)[0][0] == deadlocks
        decided = fetch(url, "SELECT count(*) FROM orders WHERE status <> 'pending'")
        assert decided[0][0] == rounds * DECISIONS


_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def _two(queues: dict[str, int]) -> Sequence[str] | None:
    return sorted(queues) if len(queues) == 2 else None


async def _record_crosswise(rig: Rig, queues: Sequence[str], rounds: int) -> set[int]:
    """Give the codes of all answers to new orders."""
    clients = [HttpClient(api.service.url) for api in rig.apis]
    codes: set[int] = set()

    async def place(number: int, order_id: str) -> None:
        answer = await clients[number % 2].request("POST", "/orders", order_body({"widget": 1}, order_id))
        codes.add(answer.code)

    async with await aio_pika.connect(rig.host.amqp_url) as connection:
        channel = await connection.channel()
        for _ in range(rounds):
            order_ids = [new_id() for _ in range(DECISIONS)]
            await asyncio.gather(*(place(number, order_id) for number, order_id in enumerate(order_ids)))
            decisions = [_decision(order_id, OUTCOMES[number % 2]) for number, order_id in enumerate(order_ids)]
            await asyncio.gather(
                *(channel.default_exchange.publish(each, queues[0]) for each in decisions),
                *(channel.default_exchange.publish(each, queues[1]) for each in reversed(decisions)),
                *(place(number, new_id("N")) for number in range(4)),
            )
            await _all_decided(clients[0], order_ids)
    await asyncio.gather(*(client.close() for client in clients))
    return codes


def _decision(order_id: str, status: str) -> aio_pika.Message:
    body = f'{{"order_id":"{order_id}","status":"{status}"}}'.encode()
    return aio_pika.Message(body, type=DECISION_TYPE, correlation_id=order_id, content_type="application/json")


async def _all_decided(client: HttpClient, order_ids: Sequence[str]) -> None:
    async with asyncio.timeout(30):
        for order_id in order_ids:
            while (await client.request("GET", f"/orders/{order_id}")).body["status"] == "pending":
                await asyncio.sleep(0.02)
