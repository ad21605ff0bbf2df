"""A delivery while it is worked on: its span, how it was settled, and of what it failed.

Its span ends when it is settled, and the callback that got it has returned or the loop that pulled it has gone on, whichever
comes later.
"""

import time
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, Status, StatusCode

from . import semconv
from .delivery_context import DeliveryContext, enter
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
    is_settled = False
    is_forgotten = False
    """Whether nobody can settle it any more."""
    is_at_work = False
    """Whether it is within a `process()` block, which it does not end before."""
    over_at: int | None = None
    """When the callback returned or the body of the loop was left, in nanoseconds since the epoch."""
    inside: DeliveryContext | None = None
    outer: "OpenDelivery | None" = None

    def __init__(self, described: Described, metrics: MessagingMetrics, *, no_ack: bool = False) -> None:
        self.described = described
        self.metrics = metrics
        self.started = time.perf_counter()
        if no_ack:
            self.outcome, self.is_settled = AUTO_ACK, True

    @property
    def is_past(self) -> bool:
        """Whether it is no longer the current one of anybody."""
        return self.is_over or (self.inside is not None and self.inside.is_left_behind)

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
        if self.is_pulled or self.over_at is not None:  # what leaves a callback is recorded by the instrumentation
            self.span.record_exception(error)

    def enter(self, inside: Context) -> None:
        """Make it the current one of whoever pulled it."""
        self.outer = current_delivery()
        if self.outer is not None:
            self.outer.outer = _not_past(self.outer.outer)
        self.inside = enter(trace.set_span_in_context(self.span, inside))
        CURRENT.set(self)

    def leave(self) -> None:
        """Make what was current before it current again."""
        if self.over_at is not None:
            return
        self.over_at = time.time_ns()
        if self.inside is not None:
            self.inside.leave()
        if CURRENT.get() is self:
            CURRENT.set(_not_past(self.outer))

    def outlive(self) -> None:
        """Stay open beyond the callback that returns now, although the instrumentation ends its span then."""
        self.over_at = time.time_ns()
        _pass_over_next_end(self.span)

    def settle(self, outcome: str) -> None:
        """Say how it was settled, and end it unless it is still worked on."""
        if self.is_over:
            return
        self.is_settled = True
        if self.outcome is None:
            self.tell_outcome(outcome)
        self._end()

    def rest(self) -> None:
        """End it after its `process()` block, where only that has kept it open."""
        self.is_at_work = False
        self.close_if_done()

    def close_if_done(self, end_time: int | None = None) -> None:
        """End its span where it was left, nobody works on it, and it is settled or never will be."""
        if self.over_at is not None and not self.is_at_work and (self.is_settled or self.is_forgotten):
            self.close(end_time)

    def close(self, end_time: int | None = None) -> None:
        """End its span, and count how long it took."""
        if self.is_over:
            return
        self.record(end_time)
        if self.inside is not None:
            self.inside.is_over = True
        self.span.end(end_time)

    def record(self, end_time: int | None = None) -> None:
        """Count how long it took, and say so where nobody settled it."""
        if self.outcome is None:
            self.tell_outcome(UNSETTLED)
        elif self.outcome is AUTO_ACK:
            self.span.set_attribute(semconv.DELIVERY_OUTCOME, AUTO_ACK)
        self.is_over = True
        series = self.described.series
        if self.error_type is not None:
            series = Series({**series, semconv.ERROR_TYPE: self.error_type})
        since = 0.0 if end_time is None else (time.time_ns() - end_time) / 1e9
        self.metrics.process_duration.record(max(time.perf_counter() - self.started - since, 0.0), series)

    def forget(self) -> None:
        """Its message is gone, and with it whoever worked on it: nobody can settle it any more."""
        self.is_forgotten, self.is_at_work = True, False
        if self.is_got:
            self.leave()
        self.close_if_done(self.over_at)

    def lose(self) -> None:
        """Its channel is gone: nobody can settle it any more."""
        if self.is_settled or self.is_over:
            return
        self.is_forgotten = True
        self._end()

    def _end(self) -> None:
        if self.is_got:
            self.leave()
        self.close_if_done()


CURRENT: ContextVar[OpenDelivery | None] = ContextVar("whole traces: the current delivery", default=None)


def current_delivery() -> OpenDelivery | None:
    """Give the delivery that is worked on here."""
    return _not_past(CURRENT.get())


def _not_past(delivery: OpenDelivery | None) -> OpenDelivery | None:
    while delivery is not None and delivery.is_past:
        delivery = delivery.outer
    return delivery


def _pass_over_next_end(span: Span) -> None:
    if not span.is_recording():
        return

    def pass_over(_: int | None = None) -> None:
        del vars(span)["end"]

    vars(span)["end"] = pass_over


def error_type_of(error: BaseException) -> str:
    """Name an exception as `exception.type` of a span event does."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
