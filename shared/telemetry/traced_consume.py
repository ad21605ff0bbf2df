"""Deliveries to a callback, from inside and outside of the instrumentation.

Inside it stands what hands queue and message to the tracer before the span starts; outside of it, and so within the span,
what watches the application's callback. An iterator consumes too, to fill its buffer: that is no delivery to anybody yet.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika import Queue
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.queue import QueueIterator
from aio_pika.tools import ensure_awaitable
from opentelemetry import context as contexts
from opentelemetry import trace

from .conventional_tracer import HANDED
from .open_delivery import CURRENT
from .trace_context import without_span
from .traced_message import hold
from .tracing_runtime import TracingRuntime, delivery_of

Callback = Callable[[AbstractIncomingMessage], Awaitable[Any]]
Consume = Callable[..., Awaitable[Any]]


def consume_inside(runtime: TracingRuntime, plain: Consume) -> Consume:
    """Wrap `Queue.consume` before the instrumentation does."""

    async def consume(queue: Queue, callback: Callback, *args: Any, **kwargs: Any) -> Any:
        async def handing_over(message: AbstractIncomingMessage) -> Any:
            if trace.get_current_span().get_span_context().is_valid:
                # Whoever opened the connection within a span is not the sender of what comes over it ever after.
                contexts.attach(without_span(contexts.get_current()))
            delivery = runtime.delivered(queue, message)
            hold(message, delivery)
            HANDED.set((delivery.described, message, delivery))
            return await callback(message)

        return await plain(queue, handing_over, *args, **kwargs)

    return consume


def consume_outside(runtime: TracingRuntime, plain: Consume, official: Any) -> Consume:
    """Wrap `Queue.consume` as the instrumentation has wrapped it."""

    async def consume(queue: Queue, callback: Callback, *args: Any, **kwargs: Any) -> Any:
        if isinstance(getattr(callback, "__self__", None), QueueIterator):
            return await plain(queue, callback, *args, **kwargs)
        watched = _watched(runtime, ensure_awaitable(callback))
        return await official.__get__(queue, Queue)(watched, *args, **kwargs)

    return consume


def _watched(runtime: TracingRuntime, callback: Callback) -> Callback:
    async def watched(message: AbstractIncomingMessage) -> Any:
        delivery = delivery_of(message)
        if delivery is None or not delivery.is_begun:
            return await callback(message)
        CURRENT.set(delivery)
        runtime.count(delivery)
        try:
            result = await callback(message)
        except BaseException as error:
            delivery.fail(error)
            delivery.record()
            raise
        if delivery.is_settled:
            delivery.record()
        else:  # by whomever it was handed to
            delivery.outlive()
            runtime.unsettled.add(message, delivery)
        return result

    return watched
