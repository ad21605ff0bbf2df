"""Incoming messages that say how they were settled, and whose `process()` is at home in their span."""

import sys
from collections.abc import Awaitable
from types import TracebackType
from typing import Any

from aio_pika.abc import AbstractIncomingMessage, AbstractProcessContext
from aio_pika.message import IncomingMessage, ProcessContext
from opentelemetry import context as contexts
from opentelemetry import propagate, trace

from .open_delivery import CURRENT, OpenDelivery
from .trace_context import without_span
from .tracing_options import TracingOptions
from .tracing_runtime import TracingRuntime

_ASKING_FOR_IT = frozenset({"NackMessage", "RejectMessage"})
"""What handlers of `Master` and of FastStream raise to have their message rejected: no failure."""


def traced_messages(runtime: TracingRuntime, options: TracingOptions) -> type[IncomingMessage]:
    """Make the class that the client makes its incoming messages of, in the place of its own."""

    class TracedMessage(_TracedMessage):
        __slots__ = ()

        def _begin_anew(self, before: OpenDelivery) -> OpenDelivery:
            delivery = OpenDelivery(before.described, runtime.metrics, no_ack=self.processed)
            delivery.is_pulled = True
            inside = propagate.extract(self.headers, without_span(contexts.get_current()))
            runtime.tracer.start_delivery(delivery, self, inside)
            return delivery

        async def _settle(
            self, operation: str, outcome: str, settling: Awaitable[None], *, multiple: bool = False
        ) -> None:
            delivery: OpenDelivery | None = getattr(self, "_delivery", None)
            if delivery is None:
                await settling
                return
            handled = None if operation == "ack" else sys.exception()
            if handled is not None and type(handled).__name__ not in _ASKING_FOR_IT:
                delivery.fail(handled)  # whoever rejects while handling an exception does so for its sake
            try:
                if not options.settle_spans:
                    await settling
                else:
                    with trace.use_span(runtime.tracer.start_settle(delivery, operation, self), end_on_exit=True):
                        await settling
            except Exception as error:
                if not delivery.is_settled:
                    delivery.fail(error)
                raise
            delivery.settle(outcome)
            if multiple:
                runtime.unsettled.settle_up_to(self, outcome)

    return TracedMessage


class _TracedMessage(IncomingMessage):
    __slots__ = ("_delivery",)
    _delivery: OpenDelivery

    async def ack(self, multiple: bool = False) -> None:
        """Acknowledge, and say so on the span of the delivery."""
        await self._settle("ack", "ack", super().ack(multiple), multiple=multiple)

    async def reject(self, requeue: bool = False) -> None:
        """Reject, and say so on the span of the delivery."""
        await self._settle("reject", "requeue" if requeue else "reject", super().reject(requeue))

    async def nack(self, multiple: bool = False, requeue: bool = True) -> None:
        """Reject one or many, and say so on the span of the delivery."""
        await self._settle(
            "nack", "requeue" if requeue else "reject", super().nack(multiple, requeue), multiple=multiple
        )

    def process(
        self, requeue: bool = False, reject_on_redelivered: bool = False, ignore_processed: bool = False
    ) -> AbstractProcessContext:
        """Give a context that settles by how its block ends, in the span of the delivery."""
        return _TracedProcessContext(
            self,
            requeue=requeue,
            reject_on_redelivered=reject_on_redelivered,
            ignore_processed=ignore_processed,
        )

    def __del__(self) -> None:
        if (delivery := getattr(self, "_delivery", None)) is not None and not delivery.is_over:
            delivery.forget()

    async def _settle(self, operation: str, outcome: str, settling: Awaitable[None], *, multiple: bool = False) -> None:
        raise NotImplementedError

    def _begin_anew(self, before: OpenDelivery) -> OpenDelivery:
        raise NotImplementedError


def hold(message: AbstractIncomingMessage, delivery: OpenDelivery) -> None:
    """Let a message know its delivery; one from before or after the time that messages are traced cannot."""
    if isinstance(message, _TracedMessage):
        message._delivery = delivery


class _TracedProcessContext(ProcessContext):
    """Takes the span of a delivery to the task that works on it, where that is another than the one that took it."""

    _delivery: OpenDelivery | None = None
    _token: Any = None
    _outer: OpenDelivery | None = None
    _is_anew = False

    async def __aenter__(self) -> IncomingMessage:
        delivery: OpenDelivery | None = getattr(self.message, "_delivery", None)
        if delivery is None:
            return self.message
        if delivery.is_over:  # settled and done with: what begins now is work of its own
            delivery = self.message._delivery = self.message._begin_anew(delivery)  # type: ignore[attr-defined]
            self._is_anew = True
        self._delivery = delivery
        delivery.is_at_work = True
        if delivery is not CURRENT.get():
            self._outer = CURRENT.get()
            self._token = contexts.attach(trace.set_span_in_context(delivery.span))
            CURRENT.set(delivery)
        return self.message

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        delivery = self._delivery
        if delivery is not None and exc_val is not None:
            delivery.fail(exc_val)
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            if self._token is not None:
                contexts.detach(self._token)
                CURRENT.set(self._outer)
            if delivery is not None:
                if self._is_anew:
                    delivery.close()
                else:
                    delivery.rest()
