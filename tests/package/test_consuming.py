"""Every way to consume: one process span a delivery, as long as the work on it, with how it was settled."""

import asyncio
import gc
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from tests.package.conftest import Jobs, Traced, acknowledge, attributes, links, span_id, trace_id
from tests.system import VirtualHost
from tests.waiting import eventually_async

SEND, PROCESS = "send jobs", "process jobs"


@pytest.mark.parametrize(
    ("settle", "outcome"),
    [
        (lambda message: message.ack(), "ack"),
        (lambda message: message.nack(requeue=False), "reject"),
        (lambda message: message.reject(), "reject"),
        (lambda _: asyncio.sleep(0), "unsettled"),
    ],
)
async def test_a_callback_tells_how_it_settled(jobs: Jobs, traced: Traced, settle: object, outcome: str) -> None:
    async def handle(message: AbstractIncomingMessage) -> None:
        await settle(message)  # type: ignore[operator]

    await jobs.queue.consume(handle)
    await jobs.send()

    process = await traced.the(PROCESS)
    assert attributes(process)["delivery.outcome"] == outcome
    assert attributes(process)["messaging.rabbitmq.message.delivery_tag"] == 1
    assert links(process) == {"creation_context": span_id(traced.named(SEND)[0])}


async def test_a_callback_that_sends_its_message_back_tells_so_each_time(jobs: Jobs, traced: Traced) -> None:
    async def handle(message: AbstractIncomingMessage) -> None:
        await (message.ack() if message.redelivered else message.nack())

    await jobs.queue.consume(handle)
    await jobs.send()

    outcomes = [attributes(span)["delivery.outcome"] for span in await traced.ended(PROCESS, 2)]
    assert outcomes == ["requeue", "ack"]


async def test_a_callback_that_raises_ends_its_span_with_the_error(jobs: Jobs, traced: Traced) -> None:
    async def handle(message: AbstractIncomingMessage) -> None:
        with pytest.raises(ZeroDivisionError):
            async with message.process():
                raise ZeroDivisionError("no")

    await jobs.queue.consume(handle)
    await jobs.send()

    process = await traced.the(PROCESS)
    assert (attributes(process)["error.type"], attributes(process)["delivery.outcome"]) == (
        "ZeroDivisionError",
        "reject",
    )
    assert process.status.status_code is StatusCode.ERROR
    (point,) = traced.points("messaging.process.duration")
    assert point["error.type"] == "ZeroDivisionError"


async def test_without_acks_the_outcome_says_so(jobs: Jobs, traced: Traced) -> None:
    async def handle(_: AbstractIncomingMessage) -> None: ...

    await jobs.queue.consume(handle, no_ack=True)
    await jobs.send()

    assert attributes(await traced.the(PROCESS))["delivery.outcome"] == "auto_ack"


async def test_a_callback_that_is_no_coroutine_is_traced_too(jobs: Jobs, traced: Traced) -> None:
    with pytest.deprecated_call():
        await jobs.queue.consume(lambda _: None, no_ack=True)
        await jobs.send()
        await traced.the(PROCESS)


async def test_no_header_of_a_stranger_ends_consumption(jobs: Jobs, traced: Traced) -> None:
    async def handle(message: AbstractIncomingMessage) -> None:
        await message.ack()

    await jobs.queue.consume(handle)
    channel = await (await jobs.queue.channel.get_underlay_channel()).connection.channel()
    hostile: list[Any] = [17, bytearray(b"\xff"), True, "nonsense", [1]]
    for value in hostile:
        properties = aio_pika.Message(b"", headers={"traceparent": value, "baggage": value}).properties
        await channel.basic_publish(b"", routing_key="jobs", properties=properties)

    processes = await traced.ended(PROCESS, 5)
    assert [attributes(span)["delivery.outcome"] for span in processes] == ["ack"] * 5
    assert not any(span.links or span.parent for span in processes)


async def test_the_span_of_an_iterators_delivery_is_as_long_as_the_body_of_the_loop(jobs: Jobs, traced: Traced) -> None:
    await jobs.send(3)

    async with jobs.queue.iterator() as messages:
        async for message in messages:
            await jobs.carry_on()
            await message.ack()
            if message.body == b"2":
                break
        assert not trace.get_current_span().get_span_context().is_valid

    sends, processes, further = traced.named(SEND), await traced.ended(PROCESS, 3), traced.named("send further")
    for send, process, onward in zip(sends, processes, further, strict=True):
        assert trace_id(send) == trace_id(process) == trace_id(onward)
        assert onward.parent is not None
        assert onward.parent.span_id == span_id(process)
        assert process.end_time is not None
        assert onward.end_time is not None
        assert process.end_time >= onward.end_time
        assert attributes(process)["delivery.outcome"] == "ack"


async def test_a_break_ends_the_span_at_once_even_where_nobody_closes_the_iterator(jobs: Jobs, traced: Traced) -> None:
    await jobs.send(2)

    async for message in jobs.queue:
        await message.ack()
        break

    assert len(traced.named(PROCESS)) == 1
    assert not trace.get_current_span().get_span_context().is_valid
    await jobs.carry_on()
    assert traced.named("send further")[0].parent is None


@pytest.mark.parametrize("settles", [True, False])
async def test_an_exception_that_leaves_the_iterators_block_is_on_the_span(
    jobs: Jobs, traced: Traced, settles: bool
) -> None:
    await jobs.send()

    async def work() -> None:
        async with jobs.queue.iterator() as messages:
            async for message in messages:
                if settles:
                    await message.ack()
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    gc.collect()

    process = await traced.the(PROCESS)
    assert attributes(process)["error.type"] == "ZeroDivisionError"
    assert attributes(process)["delivery.outcome"] == ("ack" if settles else "unsettled")
    assert [event.name for event in process.events] == ["exception"]


async def test_a_cancelled_loop_ends_its_span_unsettled_and_without_error(jobs: Jobs, traced: Traced) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with jobs.queue.iterator() as messages:
            async for _ in messages:
                begun.set()
                await asyncio.Event().wait()

    await jobs.send()
    task = asyncio.create_task(work())
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()

    process = await traced.the(PROCESS)
    assert attributes(process)["delivery.outcome"] == "unsettled"
    assert process.status.status_code is StatusCode.UNSET


async def test_an_iterator_without_acks(jobs: Jobs, traced: Traced) -> None:
    await jobs.send(2)

    async with jobs.queue.iterator(no_ack=True) as messages:
        async for message in messages:
            if message.body == b"1":
                break

    outcomes = [attributes(span)["delivery.outcome"] for span in await traced.ended(PROCESS, 2)]
    assert outcomes == ["auto_ack"] * 2


async def test_work_that_the_loop_hands_to_tasks_is_in_the_span_of_its_message(jobs: Jobs, traced: Traced) -> None:
    async def work(message: AbstractIncomingMessage) -> None:
        async with message.process():
            await asyncio.sleep(0)
            await jobs.carry_on()

    await jobs.send(2)
    async with asyncio.TaskGroup() as group, jobs.queue.iterator() as messages:
        async for message in messages:
            group.create_task(work(message))
            if message.body == b"1":
                break

    processes = await traced.ended(PROCESS, 2)
    further = {onward.parent.span_id for onward in traced.named("send further") if onward.parent}
    assert further == {span_id(process) for process in processes}
    assert {attributes(process)["delivery.outcome"] for process in processes} == {"ack"}


async def test_a_pool_of_workers_fed_from_a_loop_keeps_traces_apart(jobs: Jobs, traced: Traced) -> None:
    pool: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def worker() -> None:
        message = await pool.get()
        async with message.process():
            await jobs.carry_on()

    await jobs.send(3)
    workers = [asyncio.create_task(worker()) for _ in range(3)]
    async for message in jobs.queue:
        pool.put_nowait(message)
        if message.body == b"2":
            break
    await asyncio.wait_for(asyncio.gather(*workers), 30)

    processes = await traced.ended(PROCESS, 3)
    assert {trace_id(onward) for onward in traced.named("send further")} == {trace_id(span) for span in processes}
    assert len({trace_id(span) for span in processes}) == 3


async def test_a_get_is_in_its_span_until_it_is_settled(jobs: Jobs, traced: Traced) -> None:
    await jobs.send()

    message = await jobs.queue.get()
    await jobs.carry_on()
    await message.ack()
    await jobs.carry_on()

    process = await traced.the(PROCESS)
    within, after = traced.named("send further")
    assert within.parent is not None
    assert within.parent.span_id == span_id(process)
    assert after.parent is None
    assert attributes(process)["delivery.outcome"] == "ack"


async def test_a_get_without_acks_is_a_receive(jobs: Jobs, traced: Traced) -> None:
    await jobs.send()

    await jobs.queue.get(no_ack=True)

    receive = await traced.the("receive jobs")
    assert receive.kind.name == "CLIENT"
    assert links(receive) == {"creation_context": span_id(traced.named(SEND)[0])}
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_get_that_finds_nothing_is_no_span(jobs: Jobs, traced: Traced) -> None:
    assert await jobs.queue.get(fail=False) is None
    with pytest.raises(aio_pika.exceptions.QueueEmpty):
        await jobs.queue.get()

    assert traced.spans == ()


async def test_a_message_that_is_forgotten_ends_its_span_unsettled(jobs: Jobs, traced: Traced) -> None:
    await jobs.send()
    message = await jobs.queue.get()
    assert not traced.named(PROCESS)

    del message
    gc.collect()

    assert attributes(await traced.the(PROCESS))["delivery.outcome"] == "unsettled"


async def test_a_connection_that_was_opened_in_a_span_does_not_draw_strangers_into_its_trace(
    traced: Traced, virtual_host: VirtualHost
) -> None:
    with traced.tracer.start_as_current_span("start-up"):
        opened = await aio_pika.connect_robust(virtual_host.amqp_url)
    async with opened:
        channel = await opened.channel()
        queue = await channel.declare_queue("jobs")
        await queue.consume(acknowledge)
        underlay = await channel.get_underlay_channel()
        await underlay.basic_publish(b"from a stranger", routing_key="jobs")

        process = await traced.the(PROCESS)
    assert process.parent is None
    assert process.links == ()


async def test_messages_that_come_after_the_end_of_tracing_are_handled(jobs: Jobs, traced: Traced) -> None:
    from shared.telemetry import AioPikaTracing

    handled = []

    async def handle(message: AbstractIncomingMessage) -> None:
        async with message.process():
            handled.append(message.body)

    await jobs.queue.consume(handle)
    AioPikaTracing().uninstrument()
    await jobs.send()

    await eventually_async(lambda: len(handled) == 1)


async def test_a_request_that_waits_for_its_reply_by_an_iterator_is_itself_again_afterwards(
    jobs: Jobs, traced: Traced
) -> None:
    async def ask() -> bytes:
        await jobs.send()
        async with jobs.queue.iterator() as replies:
            async for reply in replies:
                async with reply.process():
                    return bytes(reply.body)
        raise AssertionError("no reply came")

    with traced.tracer.start_as_current_span("asking") as asking:
        await ask()
        assert trace.get_current_span() is asking
        await jobs.carry_on()

    (further,) = traced.named("send further")
    assert further.parent is not None
    assert further.parent.span_id == asking.get_span_context().span_id
    assert attributes(await traced.the(PROCESS))["delivery.outcome"] == "ack"
