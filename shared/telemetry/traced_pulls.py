"""Deliveries that an application pulls, from an iterator or by a `get`: the instrumentation does not see these.

An iterator's delivery is worked on until the loop asks for the next one or is left, a `get`'s until it is settled. Meanwhile
its span is the current one of the task that pulled it.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aio_pika import IncomingMessage, Queue
from aio_pika.abc import AbstractIncomingMessage
from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import SpanKind

from .open_delivery import CURRENT, OpenDelivery
from .trace_context import without_span
from .traced_message import hold
from .tracing_runtime import TracingRuntime

Method = Callable[..., Awaitable[Any]]


def traced_next(runtime: TracingRuntime, plain: Method) -> Method:
    """Wrap `__anext__` of an iterator."""

    async def following(iterator: Any) -> AbstractIncomingMessage:
        _leave(iterator)
        message: AbstractIncomingMessage = await plain(iterator)
        if is_instrumentation_enabled():
            iterator._whole_traces_delivery = _begin(runtime, iterator._amqp_queue, message)
        return message

    return following


def traced_loop(_: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `__aiter__` of a queue and of its iterator: what it gives is let go as soon as a loop is left, however."""

    def begin_loop(pulled: Any) -> AsyncIterator[AbstractIncomingMessage]:
        return _Loop(pulled.iterator() if isinstance(pulled, Queue) else pulled)

    return begin_loop


class _Loop(AsyncIterator[AbstractIncomingMessage]):
    """Held by the loop alone: a break, a return and an exception let it go at once."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    async def __anext__(self) -> AbstractIncomingMessage:
        message: AbstractIncomingMessage = await self._iterator.__anext__()
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __del__(self) -> None:
        # Within `async with` its end is left to the end of that: only there is known what was raised.
        _leave(self._iterator, stays_open=getattr(self._iterator, "_whole_traces_is_entered", False))


def traced_enter(plain: Method) -> Method:
    """Wrap `QueueIterator.__aenter__`."""

    async def enter(iterator: Any) -> Any:
        iterator._whole_traces_is_entered = True
        return await plain(iterator)

    return enter


def traced_exit(plain: Method) -> Method:
    """Wrap `QueueIterator.__aexit__`: here is known what ended the loop."""

    async def leave(iterator: Any, exc_type: Any, exc_val: BaseException | None, exc_tb: Any) -> Any:
        iterator._whole_traces_is_entered = False
        delivery: OpenDelivery | None = getattr(iterator, "_whole_traces_delivery", None)
        if delivery is not None and exc_val is not None:
            delivery.fail(exc_val)
        _leave(iterator)
        return await plain(iterator, exc_type, exc_val, exc_tb)

    return leave


def traced_get(runtime: TracingRuntime, plain: Method) -> Method:
    """Wrap `Queue.get`."""

    async def get(queue: Queue, **kwargs: Any) -> IncomingMessage | None:
        before = CURRENT.get()
        if before is not None and before.is_got:
            before.leave()
        started, clock = time.time_ns(), time.perf_counter()
        message: IncomingMessage | None = await plain(queue, **kwargs)
        if message is None or not is_instrumentation_enabled():
            return message
        received = runtime.describe_delivery(queue, message, "receive")
        runtime.metrics.operation_duration.record(time.perf_counter() - clock, received.series)
        if message.processed:  # nothing will say when it was worked on, so the span is that of the pull
            _begin(runtime, queue, message, operation="receive", started=started).close()
        else:
            _begin(runtime, queue, message).is_got = True
        return message

    return get


def _begin(
    runtime: TracingRuntime,
    queue: Queue,
    message: AbstractIncomingMessage,
    *,
    operation: str = "process",
    started: int | None = None,
) -> OpenDelivery:
    delivery = runtime.delivered(queue, message, operation)
    delivery.is_pulled = True
    hold(message, delivery)
    here = contexts.get_current()
    inside = propagate.extract(message.headers, without_span(here))
    receives = operation == "receive"
    creation = trace.get_current_span(inside).get_span_context()
    # A receive is a step of whoever asks, and part of the message's trace only where nobody's span is open.
    is_own_step = receives and trace.get_current_span(here).get_span_context().is_valid
    runtime.tracer.start_delivery(
        delivery,
        message,
        here if is_own_step else inside,
        kind=SpanKind.CLIENT if receives else SpanKind.CONSUMER,
        creation=creation,
        start_time=started,
    )
    if not receives:
        delivery.enter(inside)
        if not delivery.is_settled:
            runtime.unsettled.add(message, delivery)
    runtime.count(delivery)
    return delivery


def _leave(iterator: Any, *, stays_open: bool = False) -> None:
    """Leave the delivery that an iterator gave last; it is over where it is settled, or never will be."""
    delivery: OpenDelivery | None = getattr(iterator, "_whole_traces_delivery", None)
    if delivery is None:
        return
    delivery.leave()
    if stays_open:
        return
    iterator._whole_traces_delivery = None
    delivery.close_if_done(delivery.over_at)
