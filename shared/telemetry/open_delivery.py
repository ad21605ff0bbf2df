"""A delivery while it is worked on: its span, how it was settled, and of what it failed.

The span of a delivery that a callback gets ends with the callback. One that was pulled, from an iterator or by a `get`, has
no callback: its span ends when the loop goes on and it is settled, whichever comes later.
"""

import time
from contextvars import ContextVar

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, Status, StatusCode

from . import semconv
from .destinations import Described
from .metrics import MessagingMetrics, Series

UNSETTLED, AUTO_ACK = "unsettled", "auto_ack"


class OpenDelivery:
    """One delivery. It does not know its message, which holds it: one that nobody settles ends its span as it goes."""

    span: Span = INVALID_SPAN
    creation: SpanContext = INVALID_SPAN_CONTEXT
    outcome: str | None = None
    error_type: str | None = None
    is_begun = False
    """Whether it has a span: none where instrumentation is suppressed."""
    is_over = False
    """Whether its span has ended."""
    is_pulled = False
    is_got = False
    """Whether it was pulled by a `get`: then it is over with its settlement."""
    is_forgotten = False
    over_at: int | None = None
    """When the body of the loop was left, in nanoseconds since the epoch."""
    outside: Context | None = None
    outer: "OpenDelivery | None" = None

    def __init__(self, described: Described, metrics: MessagingMetrics, *, no_ack: bool = False) -> None:
        self.described = described
        self.metrics = metrics
        self.started = time.perf_counter()
        if no_ack:
            self.outcome = AUTO_ACK

    def tell_outcome(self, outcome: str) -> None:
        """Say how it was settled."""
        self.outcome = outcome
        self.span.set_attribute(semconv.DELIVERY_OUTCOME, outcome)

    def tell_error(self, error_type: str, description: str) -> None:
        """Say of what it failed."""
        self.error_type = error_type
        self.span.set_attribute(semconv.ERROR_TYPE, error_type)
        self.span.set_status(Status(StatusCode.ERROR, description))

    def fail(self, error: BaseException) -> None:
        """Say what was raised; a cancellation is no failure."""
        if self.is_over or self.error_type is not None or not isinstance(error, Exception):
            return
        self.tell_error(error_type_of(error), f"{type(error).__name__}: {error}")
        if self.is_pulled:  # what leaves a callback is recorded by the instrumentation
            self.span.record_exception(error)

    def enter(self, inside: Context) -> None:
        """Make it the current one of whoever pulled it."""
        self.outside, self.outer = contexts.get_current(), CURRENT.get()
        contexts.attach(trace.set_span_in_context(self.span, inside))
        CURRENT.set(self)

    def leave(self) -> None:
        """Make what was current before it current again, where it still is; settled, it is over."""
        if self.over_at is None:
            self.over_at = time.time_ns()
        if CURRENT.get() is self and self.outside is not None:
            CURRENT.set(self.outer)
            contexts.attach(self.outside)
        self.outside = self.outer = None

    def close(self, end_time: int | None = None) -> None:
        """End its span, and count how long it took."""
        if self.is_over:
            return
        self.record()
        self.span.end(end_time)

    def record(self) -> None:
        """Count how long it took, and say so where nobody settled it."""
        self.is_over = True
        if self.outcome is None:
            self.tell_outcome(UNSETTLED)
        elif self.outcome is AUTO_ACK:
            self.span.set_attribute(semconv.DELIVERY_OUTCOME, AUTO_ACK)
        series = self.described.series
        if self.error_type is not None:
            series = Series({**series, semconv.ERROR_TYPE: self.error_type})
        self.metrics.process_duration.record(time.perf_counter() - self.started, series)

    def forget(self) -> None:
        """Its message is gone: nobody can settle it any more."""
        self.is_forgotten = True
        if self.is_got:
            self.leave()
        if self.is_pulled and self.over_at is not None:
            self.close(self.over_at)


CURRENT: ContextVar[OpenDelivery | None] = ContextVar("whole traces: the current delivery", default=None)


def error_type_of(error: BaseException) -> str:
    """Name an exception as `exception.type` of a span event does."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def delivery_settled(outcome: str) -> None:
    """Say how the current delivery was settled, in the application's own word: `retry`, `dead_letter`."""
    if (delivery := CURRENT.get()) is None:
        trace.get_current_span().set_attribute(semconv.DELIVERY_OUTCOME, outcome)
    else:
        delivery.tell_outcome(outcome)


def delivery_failed(error_type: str, description: str = "") -> None:
    """Say of what the current delivery failed, in the application's own code of few values."""
    if (delivery := CURRENT.get()) is None:
        span = trace.get_current_span()
        span.set_attribute(semconv.ERROR_TYPE, error_type)
        span.set_status(Status(StatusCode.ERROR, description))
    else:
        delivery.tell_error(error_type, description)
