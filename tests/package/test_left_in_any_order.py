"""No span stays the current one beyond its delivery, in whatever order iterators, gets and generators are left."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage
from opentelemetry import context as contexts
from opentelemetry import trace

from shared.telemetry.delivery_context import DeliveryContext
from tests.package.conftest import Jobs, Traced, span_id
from tests.waiting import eventually_async

PROCESS = "process jobs"


def is_nobodys() -> bool:
    """Whether there is no current span here."""
    return not trace.get_current_span().get_span_context().is_valid


def depth() -> int:
    """How many contexts of deliveries are held here, one within the other."""
    context, count = contexts.get_current(), 0
    while isinstance(context, DeliveryContext):
        context, count = context.outside, count + 1
    return count


@pytest.mark.parametrize("settles", [True, False])
async def test_two_iterators_in_step_leave_nothing_behind(jobs: Jobs, traced: Traced, settles: bool) -> None:
    other = await jobs.queue.channel.declare_queue("others")
    await jobs.send(3)
    for _ in range(3):
        await jobs.send(to="others")

    kept, depths = [], []
    async with jobs.queue.iterator() as ones, other.iterator() as twos:
        for _ in range(3):
            one, two = await ones.__anext__(), await twos.__anext__()
            depths.append(depth())
            if settles:
                await one.ack()
                await two.ack()
            else:
                kept += [one, two]

    assert is_nobodys()
    assert depths == [2, 2, 2]
    await jobs.carry_on()
    assert traced.named("send further")[0].parent is None
    for message in kept:
        await message.ack()
    await traced.ended("process", 6)


async def test_a_get_within_a_loop_that_is_settled_after_it(jobs: Jobs, traced: Traced) -> None:
    other = await jobs.queue.channel.declare_queue("others")
    await jobs.send()
    await jobs.send(to="others")

    async with jobs.queue.iterator() as messages:
        async for message in messages:
            got = await other.get()
            await message.ack()
            break
    await got.ack()

    assert is_nobodys()
    await traced.ended("process", 2)


async def test_a_get_that_is_settled_in_a_span_leaves_that_span_current(jobs: Jobs, traced: Traced) -> None:
    await jobs.send(2)
    for _ in range(2):
        message = await jobs.queue.get()
        with traced.tracer.start_as_current_span("work") as work:
            await message.ack()
            assert trace.get_current_span() is work
        assert is_nobodys()
        assert depth() == 1

    processes = {span_id(span) for span in await traced.ended(PROCESS, 2)}
    assert {span.parent.span_id for span in traced.named("work") if span.parent} == processes


async def test_a_generator_around_a_loop_that_its_caller_breaks_out_of(jobs: Jobs, traced: Traced) -> None:
    async def bodies() -> AsyncIterator[bytes]:
        async with jobs.queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                yield message.body

    await jobs.send()
    async for _ in bodies():
        break
    await traced.the(PROCESS)

    assert is_nobodys()
    await jobs.carry_on()
    assert traced.named("send further")[0].parent is None


async def test_a_generator_whose_message_nobody_settled(jobs: Jobs, traced: Traced) -> None:
    async def pulled() -> AsyncIterator[AbstractIncomingMessage]:
        async for message in jobs.queue:
            yield message

    await jobs.send()
    async for message in pulled():
        assert message.body == b"0"
        break
    del message

    await eventually_async(lambda: gc.collect() >= 0 and bool(traced.named(PROCESS)))
    assert is_nobodys()


async def test_what_a_task_does_after_a_loop_has_gone_on_is_in_the_span_until_it_settles(
    jobs: Jobs, traced: Traced
) -> None:
    async def work(message: AbstractIncomingMessage, has_gone_on: asyncio.Event) -> None:
        await has_gone_on.wait()
        await jobs.carry_on()
        await message.ack()

    await jobs.send(2)
    has_gone_on, tasks = asyncio.Event(), []
    async with jobs.queue.iterator() as messages:
        async for message in messages:
            tasks.append(asyncio.create_task(work(message, has_gone_on)))
            if len(tasks) == 2:
                break
        has_gone_on.set()
        await asyncio.gather(*tasks)

    processes = {span_id(span) for span in await traced.ended(PROCESS, 2)}
    assert {span.parent.span_id for span in traced.named("send further") if span.parent} == processes


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, asyncio.wait_for pulls in a task of its own")
async def test_a_pull_with_a_deadline_is_in_its_span(jobs: Jobs, traced: Traced) -> None:
    await jobs.send()

    async with jobs.queue.iterator() as messages:
        message = await asyncio.wait_for(messages.__anext__(), 30)
        await jobs.carry_on()
        await message.ack()

    process, (further,) = await traced.the(PROCESS), traced.named("send further")
    assert further.parent is not None
    assert further.parent.span_id == span_id(process)


async def test_a_pull_with_a_deadline_is_in_its_span_within_a_process_block(jobs: Jobs, traced: Traced) -> None:
    await jobs.send()

    async with jobs.queue.iterator() as messages:
        message: Any = await asyncio.wait_for(messages.__anext__(), 30)
        async with message.process():
            await jobs.carry_on()

    process, (further,) = await traced.the(PROCESS), traced.named("send further")
    assert further.parent is not None
    assert further.parent.span_id == span_id(process)
