"""`aio_pika.patterns`: remote calls and tasks, with nothing added to them."""

import asyncio

import pytest
from aio_pika.abc import AbstractRobustConnection
from aio_pika.patterns import RPC, JsonMaster, JsonRPC, RejectMessage
from opentelemetry.trace import StatusCode

from tests.package.conftest import Traced, attributes, links, span_id, trace_id


@pytest.mark.parametrize("pattern", [RPC, JsonRPC])
async def test_a_call_is_one_trace_and_links_to_its_reply(
    traced: Traced, connection: AbstractRobustConnection, pattern: type[RPC]
) -> None:
    rpc = await pattern.create(await connection.channel())

    async def multiply(*, x: int, y: int) -> int:
        return x * y

    await rpc.register("multiply", multiply)
    with traced.tracer.start_as_current_span("asking"):
        assert await rpc.call("multiply", {"x": 2, "y": 3}) == 6
    (asking,) = traced.named("asking")
    served, replied = (
        await traced.the("process multiply"),
        next(span for span in traced.spans if span.name == "process"),
    )

    assert {trace_id(span) for span in traced.spans} == {trace_id(asking)}
    assert links(asking) == {"reply": span_id(replied)}
    assert attributes(served)["delivery.outcome"] == "ack"
    assert [span.name for span in traced.named("send")] == ["send multiply", "send"]
    await rpc.close()


async def test_many_calls_at_a_time_each_link_to_their_own_reply(
    traced: Traced, connection: AbstractRobustConnection
) -> None:
    rpc = await JsonRPC.create(await connection.channel())

    async def echo(*, x: int) -> int:
        await asyncio.sleep(0.01 * (x % 3))
        return x

    async def ask(x: int) -> None:
        with traced.tracer.start_as_current_span(f"asking {x}"):
            assert await rpc.call("echo", {"x": x}) == x

    await rpc.register("echo", echo)
    await asyncio.gather(*(ask(x) for x in range(20)))
    await traced.ended("process echo", 20)

    by_id = {span_id(span): span for span in traced.spans}
    for asking in traced.named("asking"):
        assert trace_id(by_id[links(asking)["reply"]]) == trace_id(asking)
    await rpc.close()


async def test_a_method_that_raises_marks_its_delivery_though_the_reply_is_sent(
    traced: Traced, connection: AbstractRobustConnection
) -> None:
    rpc = await RPC.create(await connection.channel())

    async def divide() -> float:
        return 1 / 0

    await rpc.register("divide", divide)
    with pytest.raises(ZeroDivisionError):
        await rpc.call("divide")

    served = await traced.the("process divide")
    assert served.status.status_code is StatusCode.ERROR
    assert attributes(served)["error.type"] == "ZeroDivisionError"
    assert attributes(served)["delivery.outcome"] == "ack"
    assert [event.name for event in served.events] == ["exception"]
    await rpc.close()


@pytest.mark.parametrize(
    ("raised", "outcome", "status"),
    [
        (None, "ack", StatusCode.UNSET),
        (RejectMessage(requeue=False), "reject", StatusCode.UNSET),
        (ValueError("no"), "reject", StatusCode.ERROR),
    ],
)
async def test_a_task_of_a_master_tells_how_its_worker_settled_it(
    traced: Traced,
    connection: AbstractRobustConnection,
    raised: Exception | None,
    outcome: str,
    status: StatusCode,
) -> None:
    master = JsonMaster(await connection.channel(), requeue=False)

    async def work(*, n: int) -> None:
        if raised is not None:
            raise raised

    await master.create_worker("tasks", work)
    await master.create_task("tasks", {"n": 1})

    process = await traced.the("process tasks")
    assert attributes(process)["delivery.outcome"] == outcome
    assert process.status.status_code is status
    assert links(process) == {"creation_context": span_id(traced.named("send tasks")[0])}
