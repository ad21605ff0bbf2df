"""The dead letters on the command line: seen, replayed as a new trace that links to the old, and dropped."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aio_pika

from shared.contract.messages import CHECK_TYPE, DECISION_TYPE, InventoryDecision, OrderStatus
from shared.tools.dead_letters import work
from shared.tools.dead_letters.letter import DeadLetter
from shared.tools.traces.model import Span
from tests.dead_letters import letter, put
from tests.receiver import names
from tests.system import System, VirtualHost, new_id, stock_levels
from tests.waiting import eventually

DIED_IN = "00-11111111111111111111111111111111-2222222222222222-01"
ORDERS = str(Path(sys.executable).with_name("orders"))


def _orders(host: VirtualHost, *words: str, **environment: str) -> Any:
    done = subprocess.run(
        [ORDERS, "dead-letters", *words, "--json", "--amqp-url", host.amqp_url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def _publish(host: VirtualHost, body: bytes, **properties: Any) -> None:
    connection = await aio_pika.connect(host.amqp_url)
    async with connection:
        exchange = await (await connection.channel()).get_exchange("orders")
        await exchange.publish(aio_pika.Message(body, **properties), "inventory.check")


def test_a_dead_letter_is_listed_and_shown_and_stays_until_it_is_dropped(
    system: System, virtual_host: VirtualHost
) -> None:
    system.start_worker().wait_until_ready()
    asyncio.run(_publish(virtual_host, b"\xffnot json", type=CHECK_TYPE, correlation_id="ORDER-X"))
    eventually(lambda: virtual_host.queues().get("inventory.check.dead"), what="a dead letter")

    # More looks than a quorum queue lets pass by default.
    (letter,) = [asyncio.run(_find(virtual_host))[0] for _ in range(25)][-1:]
    (listed,) = _orders(virtual_host, "list")
    shown = _orders(virtual_host, "show", listed["id"][:8])
    (dropped,) = _orders(virtual_host, "drop", listed["id"])

    assert letter.id == listed["id"] == shown["id"] == dropped["id"]
    assert (listed["order_id"], listed["reason"], listed["origin"]) == ("ORDER-X", "malformed", "inventory.check")
    assert (listed["attempts"], len(listed["trace_id"])) == (1, 32)
    assert shown["body"] == "\\xffnot json"
    assert _orders(virtual_host, "list") == []


def test_a_replay_is_a_new_trace_linked_to_the_old_and_takes_stock_once(
    system: System, virtual_host: VirtualHost
) -> None:
    api = system.start_api(REPLY_TIMEOUT="30")
    api.service.wait_until_ready()
    order_id = new_id()
    with ThreadPoolExecutor() as pool:
        answering = pool.submit(api.submit, {"widget": 2}, order_id)
        asyncio.run(_give_up_as_a_worker_would(virtual_host))
        answer = answering.result()
    worker = system.start_worker().wait_until_ready()

    (replayed,) = _orders(virtual_host, "replay", "--all", OPENOBSERVE_URL=system.receiver.url)
    eventually(lambda: api.read(order_id)["status"] == "success", what="the replayed order's success")
    asyncio.run(_publish(virtual_host, replayed["body"].encode(), type=CHECK_TYPE, correlation_id=order_id))

    assert (answer.json()["status"], answer.json()["reason"]) == ("error", "dead_letter: retries_exhausted")
    eventually(lambda: virtual_host.queues()["inventory.check"] == 0, what="an empty queue")
    assert stock_levels(worker)["widget"] == 1_000_000 - 2
    new = eventually(lambda: _processed_replay(system), what="the replay's process span")
    assert {link.trace_id for link in new.links if link.attributes["link.reason"] == "replay_of"} == {DIED_IN[3:35]}
    assert new.trace_id not in {DIED_IN[3:35], answer.headers["x-trace-id"]}
    spans = system.receiver.wait_for_trace(new.trace_id, lambda found: "replay inventory.check.dead" in names(found))
    root = next(span for span in spans if span.parent_span_id is None)
    assert (root.name, root.service) == ("replay inventory.check.dead", "orders-cli")
    assert [link.trace_id for link in root.links] == [DIED_IN[3:35]]


def test_a_replay_of_what_died_in_a_trace_that_was_not_sampled_is_traced(
    system: System, virtual_host: VirtualHost
) -> None:
    put(virtual_host, [letter(message_id="3f", headers={"x-previous-attempt": f"{DIED_IN[:-2]}00"})])

    _orders(virtual_host, "replay", "3f", OPENOBSERVE_URL=system.receiver.url)

    (root,) = [span for span in system.receiver.spans() if span.name == "replay inventory.check.dead"]
    assert [(link.trace_id, link.attributes["link.reason"]) for link in root.links] == [(DIED_IN[3:35], "replay_of")]


def test_without_ids_nothing_is_replayed_or_dropped(system: System, virtual_host: VirtualHost) -> None:
    system.start_worker().wait_until_ready()

    for command in ("replay", "drop"):
        done = subprocess.run(
            [ORDERS, "dead-letters", command, "--amqp-url", virtual_host.amqp_url],
            env={},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 2
        assert "--all" in done.stderr


async def _give_up_as_a_worker_would(host: VirtualHost) -> None:
    """Take the next check, bury it, and refuse it, as a worker does whose database stays away."""
    connection = await aio_pika.connect(host.amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue("inventory.check", ensure=False)
        async with queue.iterator(timeout=30) as messages:
            check = await anext(messages)
        headers: dict[str, Any] = {
            "x-dead-letter-reason": "retries_exhausted",
            "x-dead-letter-attempts": 5,
            "x-previous-attempt": DIED_IN,
        }
        dead = aio_pika.Message(
            check.body, type=check.type, correlation_id=check.correlation_id, message_id="letter-1", headers=headers
        )
        await channel.default_exchange.publish(dead, "inventory.check.dead")
        refusal = InventoryDecision(
            order_id=check.correlation_id or "", status=OrderStatus.ERROR, reason="dead_letter: retries_exhausted"
        )
        reply = aio_pika.Message(refusal.encode(), type=DECISION_TYPE, correlation_id=check.correlation_id)
        await channel.default_exchange.publish(reply, check.reply_to or "")
        await check.ack()


def _processed_replay(system: System) -> Span | None:
    for span in system.receiver.spans():
        if span.kind == "CONSUMER" and any(link.attributes["link.reason"] == "replay_of" for link in span.links):
            return span
    return None


async def _find(host: VirtualHost) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    await work.look(host.amqp_url, 10, found.append)
    return found
