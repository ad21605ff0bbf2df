"""Messages from strangers: whatever their headers hold, each is processed and settled, and consumption goes on."""

from typing import Any

import aio_pika
import pytest

from shared.contract.messages import CHECK_TYPE, DECISION_TYPE, CheckInventory, InventoryDecision, Item
from tests.system import Api, System, VirtualHost, new_id
from tests.waiting import eventually

HOSTILE_HEADERS: dict[str, dict[str, Any]] = {
    "integer traceparent": {"traceparent": 42},
    "bytes traceparent": {"traceparent": bytearray(b"\x00\xff\xfe")},
    "bool traceparent": {"traceparent": True},
    "10 kB traceparent": {"traceparent": "0" * 10_000},
    "list traceparent": {"traceparent": ["00-1", {"a": 1}]},
    "almost a traceparent": {"traceparent": "00-" + "g" * 32 + "-" + "0" * 16 + "-01"},
    "integer baggage": {"baggage": 7},
    "bytes baggage": {"baggage": bytearray(b"\xff")},
    "10 kB baggage": {"baggage": "k=" + "v" * 10_000},
    "hostile tracestate": {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": 3.5},
    "hostile delivery headers": {"x-published-at-us": "yesterday", "x-failures": -3, "x-previous-attempt": 9},
    "huge attempt": {"x-failures": 2**62, "x-published-at-us": -(2**62)},
}


@pytest.mark.parametrize("propagators", ["tracecontext", "tracecontext,baggage"])
async def test_a_check_with_hostile_headers_is_processed_and_settled(
    system: System, virtual_host: VirtualHost, propagators: str
) -> None:
    system.start_worker(OTEL_PROPAGATORS=propagators).wait_until_ready()

    replies = {case: await _ask(virtual_host.amqp_url, headers) for case, headers in HOSTILE_HEADERS.items()}

    assert {case: reply.status for case, reply in replies.items()} == dict.fromkeys(HOSTILE_HEADERS, "success")
    eventually(lambda: virtual_host.queues()["inventory.check"] == 0, what="an empty queue")
    assert virtual_host.queues()["inventory.check.dead"] == 0


async def test_a_reply_with_hostile_headers_completes_its_order(system: System, virtual_host: VirtualHost) -> None:
    api = system.start_api(REPLY_TIMEOUT="0.1")
    api.service.wait_until_ready()
    connection = await aio_pika.connect(virtual_host.amqp_url)
    async with connection:
        channel = await connection.channel()
        for headers in HOSTILE_HEADERS.values():
            order_id = new_id()
            api.submit({"widget": 1}, order_id)
            question = await _take(channel, "inventory.check")
            assert question.correlation_id == order_id

            decision = InventoryDecision(order_id=order_id, status="success")
            await channel.default_exchange.publish(
                aio_pika.Message(decision.encode(), type=DECISION_TYPE, correlation_id=order_id, headers=headers),
                question.reply_to or "",
            )

            assert api.wait_for_outcome(order_id)["status"] == "success"


def test_a_request_with_a_hostile_trace_context_starts_a_trace_of_its_own(api: Api) -> None:
    for value in (
        "x" * 7000,
        "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "\u00ff",
    ):
        answer = api.http.post(
            "/orders/create", params={"order_id": new_id()}, headers={b"traceparent": value.encode("latin-1")}
        )

        assert answer.status_code == 200
        assert len(answer.headers["x-trace-id"]) == 32


async def _ask(amqp_url: str, headers: dict[str, Any]) -> InventoryDecision:
    """Ask the worker with these headers, as a stranger would, and give its reply."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        reply_queue = await channel.declare_queue(exclusive=True)
        order_id = new_id()
        check = CheckInventory(order_id=order_id, items=(Item(sku="widget", quantity=1),))
        message = aio_pika.Message(
            check.encode(), type=CHECK_TYPE, correlation_id=order_id, reply_to=reply_queue.name, headers=headers
        )
        exchange = await channel.get_exchange("orders")
        await exchange.publish(message, "inventory.check")
        reply = await _take(channel, reply_queue.name)
        assert reply.correlation_id == order_id
        return InventoryDecision.decode(reply.body)


async def _take(channel: aio_pika.abc.AbstractChannel, name: str) -> aio_pika.abc.AbstractIncomingMessage:
    queue = await channel.get_queue(name, ensure=False)
    async with queue.iterator(timeout=15) as messages:
        message = await anext(messages)
        await message.ack()
        return message
