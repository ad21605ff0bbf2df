"""The stores of the receiver: bounded, indexed, in order."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.tools.receiver.log_store import LogStore
from shared.tools.receiver.metric_store import MetricStore
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.record import Shelf
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.receiver.trace_view import render_trace
from tests.browser.embedded_receiver import SECOND, hex_id, spans_of


def test_the_oldest_traces_go_whole_and_leave_nothing_in_the_indexes() -> None:
    store = TraceStore(max_spans=5)
    store.add(spans_of(1, 2, order_id="one", links_to=(3,)))
    store.add(spans_of(2, 2, order_id="two"))

    store.add(spans_of(3, 2, order_id="three"))

    assert (len(store), store.span_count, store.evicted_traces) == (2, 4, 1)
    assert store.trace(hex_id(1)) == []
    assert store.latest(9, order_id="one") == []
    assert store.linked_into(hex_id(3)) == []
    assert len(store.trace(hex_id(2))) == 2


def test_the_bytes_are_bounded_too() -> None:
    store = TraceStore(max_bytes=100_000)

    for number in range(1, 500):
        store.add(spans_of(number, order_id="x" * 1000))

    assert 0 < len(store) < 100
    assert store.byte_count <= 100_000


def test_one_endless_trace_does_not_push_out_the_others() -> None:
    store = TraceStore(max_spans=100, max_trace_spans=10)
    store.add(spans_of(1))

    rejected = store.add(spans_of(2, 1000))

    assert rejected == 990
    assert len(store.trace(hex_id(1))) == 1
    summary = store.summary(hex_id(2))
    assert summary is not None
    assert (summary.span_count, summary.refused) == (10, 990)
    assert "10 kept, 990 refused" in render_trace(summary, store, [], Palette())


def test_a_span_that_is_exported_again_is_stored_once() -> None:
    store = TraceStore()

    assert [store.add(spans_of(1, 3)) for _ in range(2)] == [0, 0]

    assert store.span_count == len(store.trace(hex_id(1))) == 3


def test_who_links_to_one_span_can_be_asked() -> None:
    store = TraceStore()
    store.add(spans_of(2, links_to=(1,)))
    first, second = f"{1:016x}", f"{2:016x}"

    assert [span.trace_id for span in store.linked_into(hex_id(1), first)] == [hex_id(2)]
    assert store.linked_into(hex_id(1), second) == []


def test_a_span_with_impossible_times_does_not_break_the_list() -> None:
    store = TraceStore()

    store.add(spans_of(1, start_ns=2**64 - 1))

    [listed] = store.latest(1)
    assert listed.duration_ms == 0


LOOKS: dict[str, Callable[[TraceStore], object]] = {
    "a trace": lambda store: store.trace(hex_id(50)),
    "an order": lambda store: store.latest(1, order_id="o-50"),
    "what links to a trace": lambda store: store.linked_into(hex_id(50)),
}


@pytest.mark.parametrize("look", LOOKS)
def test_looking_up_one_takes_as_many_steps_among_ten_thousand_traces_as_among_a_hundred(look: str) -> None:
    steps = []
    for count in (100, 10_000):
        store = TraceStore()
        for number in range(1, count + 1):
            store.add(spans_of(number, order_id=f"o-{number}", links_to=(number - 1,)))
        with _counted() as counted:
            assert LOOKS[look](store)
        steps.append(counted[0])

    assert 0 < steps[0] == steps[1]


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Count the instructions of the interpreter, those of comprehensions included."""
    counted = [0]

    def step(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        frame.f_trace_opcodes = True
        counted[0] += event == "opcode"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield counted
    finally:
        sys.settrace(before)


def test_logs_and_metric_series_are_bounded() -> None:
    logs, metrics = LogStore(max_records=10), MetricStore(max_series=10)
    for number in range(1, 101):
        some_logs = ExportLogsServiceRequest()
        some_logs.resource_logs.add().scope_logs.add().log_records.add(trace_id=number.to_bytes(16, "big"))
        logs.add(some_logs)
        some_metrics = ExportMetricsServiceRequest()
        metric = some_metrics.resource_metrics.add().scope_metrics.add().metrics.add(name=f"m{number:03}")
        metric.gauge.data_points.add(as_double=float("nan"))
        metrics.add(some_metrics)

    assert len(logs) == 10
    assert (len(logs.of_trace(hex_id(90))), len(logs.of_trace(hex_id(91)))) == (0, 1)
    assert [point.name for point in metrics.latest()] == [f"m{number:03}" for number in range(91, 101)]
    assert metrics.latest()[0].value is None


def test_pages_follow_one_another_without_a_gap_or_a_repeat() -> None:
    store = TraceStore()
    numbers = [number * 37 % 101 for number in range(1, 101)]
    for number in numbers:
        store.add(spans_of(number, start_ns=(number // 3) * SECOND))

    seen: list[str] = []
    before = None
    while page := store.latest(7, before=before):
        seen += [summary.trace_id for summary in page]
        before = page[-1].start_ns, page[-1].trace_id

    assert seen == [hex_id(number) for number in sorted(numbers, key=lambda n: (n // 3, n), reverse=True)]


def test_a_trace_moves_to_where_its_later_spans_put_it() -> None:
    store = TraceStore()
    late, commit = spans_of(1, start_ns=9 * SECOND), spans_of(2)
    commit.resource_spans[0].scope_spans[0].spans[0].name = "commit orders"
    commit.resource_spans[0].scope_spans[0].spans[0].kind = otlp.Span.SPAN_KIND_INTERNAL
    store.add(late)
    store.add(commit)
    assert [summary.trace_id for summary in store.latest(9)] == [hex_id(1), hex_id(2)]

    root = spans_of(1, 2, start_ns=SECOND)
    root.resource_spans[0].scope_spans[0].spans[1].kind = otlp.Span.SPAN_KIND_PRODUCER
    root.resource_spans[0].scope_spans[0].spans[1].status.code = otlp.Status.STATUS_CODE_ERROR
    store.add(root)

    assert [summary.trace_id for summary in store.latest(9)] == [hex_id(2), hex_id(1)]
    shelves = {shelf: [summary.trace_id for summary in store.latest(9, shelf=shelf)] for shelf in Shelf}
    assert shelves[Shelf.ORDERS] == shelves[Shelf.ERRORS] == [hex_id(1)]
    assert shelves[Shelf.COMMITS] == [hex_id(2)]
    assert [store.count(shelf) for shelf in Shelf] == [1, 1, 1, 1, 2]


def test_evicted_traces_leave_the_shelves() -> None:
    store = TraceStore(max_spans=10)

    for number in range(1, 101):
        store.add(spans_of(number))

    assert store.count(Shelf.ALL) == len(store.latest(1000)) == len(store) == 10
