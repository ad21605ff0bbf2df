"""`aio_pika.patterns.RPC`: a call links to the reply that it waited for, and a method that raises marks its delivery.

Calls, replies and what serves them are publishes and callbacks, traced as any other.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from .open_delivery import current_delivery
from .relations import link_to_reply

Method = Callable[..., Awaitable[Any]]


class _Call:
    """A call that waits, and the span in which its reply came."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        self.reply: SpanContext | None = None


class TracedCalls:
    """The calls that wait for replies, by correlation id."""

    def __init__(self) -> None:
        self._calling: ContextVar[_Call | None] = ContextVar("whole traces: the current call", default=None)
        self._waiting: dict[str, _Call] = {}

    def call(self, plain: Method) -> Method:
        """Wrap `RPC.call`."""

        async def call(rpc: Any, *args: Any, **kwargs: Any) -> Any:
            waiting = _Call()
            self._calling.set(waiting)
            try:
                return await plain(rpc, *args, **kwargs)
            finally:
                link_to_reply(waiting.reply)

        return call

    def create_future(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `RPC.create_future`."""

        def create_future(rpc: Any) -> Any:
            future, correlation_id = plain(rpc)
            if (waiting := self._calling.get()) is not None:
                self._waiting[correlation_id] = waiting
                future.add_done_callback(lambda _: self._waiting.pop(correlation_id, None))
            return future, correlation_id

        return create_future

    def on_result_message(self, plain: Method) -> Method:
        """Wrap `RPC.on_result_message`."""

        async def on_result_message(rpc: Any, message: Any) -> Any:
            if (waiting := self._waiting.get(message.correlation_id)) is not None:
                waiting.reply = trace.get_current_span().get_span_context()
            return await plain(rpc, message)

        return on_result_message


def execute(plain: Method) -> Method:
    """Wrap `RPC.execute`, whose caller sends what it raises as a reply."""

    async def executed(rpc: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await plain(rpc, *args, **kwargs)
        except Exception as error:
            if (delivery := current_delivery()) is not None:
                delivery.fail(error)
                delivery.span.record_exception(error)
            raise

    return executed
