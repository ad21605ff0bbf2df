"""Traces of orders as the services leave them, made with the OpenTelemetry SDK and exported over HTTP."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from tests.browser.embedded_receiver import provider

MS = 1_000_000
CHECK, REPLIES = "orders:inventory.check", "order-api.replies.{instance}"


@dataclass
class OrderTrace:
    """One order, step by step; times in milliseconds after its start."""

    api: TracerProvider
    worker: TracerProvider
    order_id: str
    start_ns: int = field(default_factory=time.time_ns)

    def place(self) -> None:
        """Starts the request and sends the check; the request goes on until `answer`."""
        self.server = self._start(self.api, "POST /orders", SpanKind.SERVER, None, 0)
        self.sent = self._start(self.api, f"send {CHECK}", SpanKind.PRODUCER, self.server, 5, CHECK)
        self._end(self.sent, 10)

    def check(self, wait_ms: int = 30, *, fails: bool = False) -> None:
        """The worker takes the check `wait_ms` after it was sent, commits, and sends the reply."""
        self.at = 10 + wait_ms
        self.checked = self._start(self.worker, f"process {CHECK}", SpanKind.CONSUMER, self.sent, self.at, CHECK)
        self.checked.add_link(self.sent.get_span_context(), {"link.reason": "creation_context"})
        if fails:
            try:
                raise LookupError("the stock is away")
            except LookupError as error:
                self.checked.record_exception(error)
                self.checked.set_status(StatusCode.ERROR, "the stock is away")
        self.commit(self.worker, "commit reservations", self.checked, self.at + 2, self.at + 8)
        self.replied = self._start(
            self.worker, "send " + REPLIES, SpanKind.PRODUCER, self.checked, self.at + 10, REPLIES
        )
        self._end(self.replied, self.at + 12)
        self._end(self.checked, self.at + 15)

    def answer(self, status: str = "success") -> None:
        """The reply arrives and the request is answered."""
        received = self._start(self.api, "process " + REPLIES, SpanKind.CONSUMER, self.replied, self.at + 20, REPLIES)
        received.add_link(self.replied.get_span_context(), {"link.reason": "creation_context"})
        self._end(received, self.at + 25)
        self.server.add_link(received.get_span_context(), {"link.reason": "reply"})
        self.server.set_attribute("order.status", status)
        self._end(self.server, self.at + 28)

    def commit(self, services: TracerProvider, name: str, member: Span, start_ms: int, end_ms: int) -> Span:
        """A group commit: a trace of its own with a link to whom it served."""
        links = [Link(member.get_span_context(), {"link.reason": "batch_member"})]
        commit = services.get_tracer("demo").start_span(name, Context(), links=links, start_time=self._time(start_ms))
        self._end(commit, end_ms)
        return commit

    @property
    def trace_id(self) -> str:
        """The id of the order's trace."""
        return api.format_trace_id(self.server.get_span_context().trace_id)

    def _start(
        self, services: TracerProvider, name: str, kind: SpanKind, parent: Span | None, at_ms: int, queue: str = ""
    ) -> Span:
        context = None if parent is None else api.set_span_in_context(parent)
        attributes = {"order.id": self.order_id} | ({"messaging.destination.name": queue} if queue else {})
        tracer = services.get_tracer("demo")
        return tracer.start_span(name, context, kind, attributes, start_time=self._time(at_ms))

    def _end(self, span: Span, at_ms: int) -> None:
        span.end(self._time(at_ms))

    def _time(self, at_ms: int) -> int:
        return self.start_ns + at_ms * MS


@dataclass(frozen=True)
class Services:
    """The SDKs of both services."""

    api: TracerProvider
    worker: TracerProvider

    def order(self, order_id: str, status: str = "success", wait_ms: int = 30, *, fails: bool = False) -> OrderTrace:
        """A whole order."""
        order = self.begin(order_id)
        order.check(wait_ms, fails=fails)
        order.answer(status)
        return order

    def begin(self, order_id: str) -> OrderTrace:
        """An order whose check nobody has taken yet."""
        order = OrderTrace(self.api, self.worker, order_id)
        order.place()
        return order


@contextmanager
def services(url: str) -> Iterator[Services]:
    """Both services, exporting to the receiver."""
    with provider(url, "order-api") as order_api, provider(url, "inventory-worker") as worker:
        yield Services(order_api, worker)
