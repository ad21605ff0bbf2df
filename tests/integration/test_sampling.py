"""Head sampling with the standard variables: a trace is kept whole or not at all, and metrics count every order."""

import secrets
from collections import Counter

import pytest

from shared.tools.traces.model import Span
from tests.receiver import Receiver, is_commit
from tests.system import Api, System, new_id
from tests.waiting import eventually

PARTS = 5
ORDERS = 60


def _start(system: System, **environment: str) -> Api:
    system.start_worker(**environment).wait_until_ready()
    api = system.start_api(OTEL_METRIC_EXPORT_INTERVAL="300", **environment)
    api.service.wait_until_ready()
    return api


def _place(api: Api, orders: int, **headers: str) -> list[str]:
    """Place orders and give the ids of their traces."""
    answers = [api.submit({"widget": 1}, new_id(), **headers) for _ in range(orders)]
    assert {answer.status_code for answer in answers} == {201}
    return [answer.headers["x-trace-id"] for answer in answers]


def _wait_until_counted(receiver: Receiver, orders: int) -> None:
    eventually(lambda: receiver.metric("orders.decided") == orders, what=f"metrics of {orders} orders")


def _parts(receiver: Receiver, trace_ids: list[str]) -> Counter[str]:
    return Counter(span.trace_id for span in receiver.spans() if span.trace_id in trace_ids and not is_commit(span))


def _served(commit: Span) -> list[str]:
    return [link.trace_id for link in commit.links] if commit.parent_span_id is None else [commit.trace_id]


def _commits(receiver: Receiver) -> list[Span]:
    return [span for span in receiver.spans() if span.name.startswith("commit")]


def test_a_ratio_keeps_traces_whole_across_the_queue_and_metrics_count_every_order(system: System) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.4"}
    api = _start(system, **sampler)

    trace_ids = _place(api, ORDERS)
    _wait_until_counted(system.receiver, ORDERS)
    kept = [trace_id for trace_id in trace_ids if _is_kept(trace_id, 0.4)]
    eventually(
        lambda: sum(_parts(system.receiver, kept).values()) == PARTS * len(kept), what="the traces that are kept"
    )

    assert 0 < len(kept) < ORDERS
    assert _parts(system.receiver, trace_ids) == dict.fromkeys(kept, PARTS)
    spans = {span.span_id for span in system.receiver.spans()}
    commits = _commits(system.receiver)
    assert all(link.span_id in spans for commit in commits for link in commit.links)
    served = Counter(trace_id for commit in commits for trace_id in _served(commit))
    assert served == dict.fromkeys(kept, 3)


@pytest.mark.parametrize(("flags", "expected"), [("01", PARTS), ("00", 0)])
def test_the_decision_of_a_caller_holds_for_the_whole_order(system: System, flags: str, expected: int) -> None:
    api = _start(system)
    trace_id = secrets.token_hex(16)

    _place(api, 1, traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-{flags}")
    kept = _place(api, 1)
    eventually(lambda: _parts(system.receiver, kept).total() == PARTS, what="the trace of the order after it")

    assert _parts(system.receiver, [trace_id]).total() == expected


def test_with_sampling_off_no_span_leaves_and_orders_are_served_and_counted(system: System) -> None:
    api = _start(system, OTEL_TRACES_SAMPLER="always_off")

    _place(api, 3)
    _wait_until_counted(system.receiver, 3)
    api.service.end()

    assert system.receiver.spans() == []


def _is_kept(trace_id: str, ratio: float) -> bool:
    """Decide as the SDK's ratio sampler does: by the lower half of the trace id."""
    return int(trace_id[16:], 16) < round(ratio * 2**64)
