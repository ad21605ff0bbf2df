"""Deliveries that are settled after their callback has returned, with others, or never: one true span and one record."""

import asyncio
import gc
import time
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError
from opentelemetry.trace import StatusCode

from tests.package.conftest import Jobs, Traced, attributes, span_id
from tests.waiting import eventually_async

PROCESS = "process jobs"


@pytest.mark.parametrize(
    ("settle", "outcome"),
    [
        (lambda message: message.ack(), "ack"),
        (lambda message: message.nack(requeue=False), "reject"),
        (lambda message: message.reject(), "reject"),
    ],
)
async def test_a_delivery_that_a_pool_settles_by_hand_ends_with_its_settlement(
    jobs: Jobs, traced: Traced, settle: Any, outcome: str
) -> None:
    pool: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await jobs.queue.consume(pool.put)
    await jobs.send()

    message = await pool.get()
    assert not traced.named(PROCESS)
    before = time.time_ns()
    await settle(message)

    process = await traced.the(PROCESS)
    assert attributes(process)["delivery.outcome"] == outcome
    assert process.end_time is not None
    assert process.end_time >= before
    assert traced.count("messaging.process.duration") == 1


async def test_a_task_of_a_callback_that_settles_by_hand_is_in_its_span(jobs: Jobs, traced: Traced) -> None:
    tasks = set()

    async def work(message: AbstractIncomingMessage) -> None:
        await jobs.carry_on()
        await message.ack()

    async def handle(message: AbstractIncomingMessage) -> None:
        tasks.add(asyncio.create_task(work(message)))

    await jobs.queue.consume(handle)
    await jobs.send()

    process = await traced.the(PROCESS)
    (further,) = traced.named("send further")
    assert further.parent is not None
    assert further.parent.span_id == span_id(process)
    assert attributes(process)["delivery.outcome"] == "ack"


@pytest.mark.parametrize("fails", [True, False])
async def test_a_task_that_processes_what_its_callback_got_is_one_span_and_one_record(
    jobs: Jobs, traced: Traced, fails: bool
) -> None:
    tasks = set()

    async def work(message: AbstractIncomingMessage) -> None:
        async with message.process():
            await jobs.carry_on()
            if fails:
                raise ZeroDivisionError

    async def handle(message: AbstractIncomingMessage) -> None:
        tasks.add(asyncio.create_task(work(message)))

    await jobs.queue.consume(handle)
    await jobs.send()
    process = await traced.the(PROCESS)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert attributes(process)["delivery.outcome"] == ("reject" if fails else "ack")
    assert attributes(process).get("error.type") == ("ZeroDivisionError" if fails else None)
    assert [event.name for event in process.events] == ["exception"] * fails
    assert span_id(process) == traced.named("send further")[0].parent.span_id  # type: ignore[union-attr]
    assert traced.count("messaging.process.duration") == 1
    assert len(traced.named(PROCESS)) == 1


async def test_a_pool_that_settles_by_hand_is_at_home_in_the_span_within_a_process_block(
    jobs: Jobs, traced: Traced
) -> None:
    pool: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await jobs.queue.consume(pool.put)
    await jobs.send()

    async with (await pool.get()).process(ignore_processed=True) as message:
        await message.nack(requeue=False)
        await jobs.carry_on()
        assert not traced.named(PROCESS)

    process = await traced.the(PROCESS)
    assert attributes(process)["delivery.outcome"] == "reject"
    assert span_id(process) == traced.named("send further")[0].parent.span_id  # type: ignore[union-attr]


async def test_what_a_callback_forgets_ends_with_the_callback_unsettled(jobs: Jobs, traced: Traced) -> None:
    kept = []

    async def handle(message: AbstractIncomingMessage) -> None:
        kept.append(message)

    await jobs.queue.consume(handle)
    await jobs.send()
    await eventually_async(lambda: len(kept) == 1)
    before = time.time_ns()
    kept.clear()
    gc.collect()

    process = await traced.the(PROCESS)
    assert attributes(process)["delivery.outcome"] == "unsettled"
    assert process.end_time is not None
    assert process.end_time < before


async def test_the_end_of_a_channel_ends_what_nobody_can_settle_any_more(jobs: Jobs, traced: Traced) -> None:
    kept: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await jobs.queue.consume(kept.put)
    await jobs.send()
    message = await kept.get()

    await jobs.queue.channel.close()

    assert attributes(await traced.the(PROCESS))["delivery.outcome"] == "unsettled"
    with pytest.raises(ChannelInvalidStateError):
        await message.ack()
    assert len(traced.named(PROCESS)) == 1


async def test_an_ack_that_raises_is_the_error_of_its_delivery(jobs: Jobs, traced: Traced) -> None:
    async def handle(message: AbstractIncomingMessage) -> None:
        if message.redelivered:
            await message.ack()
            return
        await (await jobs.queue.channel.get_underlay_channel()).close()
        with pytest.raises(ChannelInvalidStateError):
            await message.ack()

    await jobs.queue.consume(handle)
    await jobs.send()

    lost, again = await traced.ended(PROCESS, 2)
    assert attributes(lost)["delivery.outcome"] == "unsettled"
    assert attributes(lost)["error.type"].endswith("ChannelInvalidStateError")
    assert lost.status.status_code is StatusCode.ERROR
    assert attributes(again)["delivery.outcome"] == "ack"


async def test_a_rejection_while_an_exception_is_handled_is_for_its_sake(jobs: Jobs, traced: Traced) -> None:
    async def handle(message: AbstractIncomingMessage) -> None:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            await message.reject()

    await jobs.queue.consume(handle)
    await jobs.send()

    process = await traced.the(PROCESS)
    assert attributes(process)["delivery.outcome"] == "reject"
    assert attributes(process)["error.type"] == "ZeroDivisionError"


async def test_a_callback_that_says_what_becomes_of_its_message_leaves_that_open(jobs: Jobs, traced: Traced) -> None:
    from shared.telemetry import delivery_settled

    pool: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def handle(message: AbstractIncomingMessage) -> None:
        delivery_settled("retry")
        pool.put_nowait(message)

    await jobs.queue.consume(handle)
    await jobs.send()
    message = await pool.get()
    assert not traced.named(PROCESS)
    await message.ack()

    assert attributes(await traced.the(PROCESS))["delivery.outcome"] == "retry"


@pytest.mark.parametrize("nack", [True, False])
async def test_a_settlement_of_many_is_that_of_each(jobs: Jobs, traced: Traced, nack: bool) -> None:
    batch: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await jobs.queue.consume(batch.put)
    await jobs.send(4)
    kept = [await batch.get() for _ in range(4)]

    await (kept[2].nack(multiple=True, requeue=False) if nack else kept[2].ack(multiple=True))

    processes = await traced.ended(PROCESS, 3)
    assert [attributes(span)["messaging.rabbitmq.message.delivery_tag"] for span in processes] == [3, 1, 2]
    assert {attributes(span)["delivery.outcome"] for span in processes} == {"reject" if nack else "ack"}
    await kept[3].ack()
    await traced.ended(PROCESS, 4)


async def test_a_settlement_of_many_from_a_loop_is_that_of_each(jobs: Jobs, traced: Traced) -> None:
    await jobs.send(3)
    batch = []
    async with jobs.queue.iterator() as messages:
        async for message in messages:
            batch.append(message)
            if len(batch) == 3:
                await message.ack(multiple=True)
                break

    outcomes = [attributes(span)["delivery.outcome"] for span in await traced.ended(PROCESS, 3)]
    assert outcomes == ["ack"] * 3


async def test_a_callback_that_another_one_has_settled_meanwhile_says_so(jobs: Jobs, traced: Traced) -> None:
    settled, begun, kept = asyncio.Event(), asyncio.Event(), []

    async def handle(message: AbstractIncomingMessage) -> None:
        kept.append(message)
        if message.delivery_tag == 1:
            begun.set()
            await settled.wait()
        else:
            await begun.wait()
            await message.ack(multiple=True)
            settled.set()

    await jobs.queue.consume(handle)
    await jobs.send(2)

    outcomes = [attributes(span)["delivery.outcome"] for span in await traced.ended(PROCESS, 2)]
    assert outcomes == ["ack"] * 2
