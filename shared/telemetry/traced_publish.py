"""A publish: what it sends where, how long that takes, and of what it fails."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika import Exchange
from aio_pika.abc import AbstractMessage
from opentelemetry import trace

from .conventional_tracer import HANDED
from .metrics import Series
from .open_delivery import error_type_of
from .semconv import ERROR_TYPE
from .tracing_runtime import TracingRuntime

Publish = Callable[..., Awaitable[Any]]


def publish_inside(plain: Publish) -> Publish:
    """Wrap `Exchange.publish` before the instrumentation does: within its span."""

    async def publish(exchange: Exchange, *args: Any, **kwargs: Any) -> Any:
        try:
            return await plain(exchange, *args, **kwargs)
        except Exception as error:
            trace.get_current_span().set_attribute(ERROR_TYPE, error_type_of(error))
            raise

    return publish


def publish_outside(runtime: TracingRuntime, official: Any) -> Publish:
    """Wrap `Exchange.publish` as the instrumentation has wrapped it."""
    sent, duration = runtime.metrics.sent_messages, runtime.metrics.operation_duration
    clock = time.perf_counter

    async def publish(exchange: Exchange, message: AbstractMessage, routing_key: str, **kwargs: Any) -> Any:
        described = runtime.describe_send(exchange, routing_key)
        series = described.series
        HANDED.set((described, message, None))
        started = clock()
        try:
            return await official.__get__(exchange, Exchange)(message, routing_key, **kwargs)
        except BaseException as error:
            series = Series({**series, ERROR_TYPE: error_type_of(error)})
            raise
        finally:
            sent.add(1, series)
            duration.record(clock() - started, series)

    return publish
