"""The arithmetic of `orders load` and `orders watch`: percentiles, and rates that do not claim what was not seen."""

from typing import Any

import pytest

from shared.tools.load_generator import percentile
from shared.tools.recent_orders import EXPORT_SECONDS, NEWEST, RATE_SECONDS, orders_state

NOW = 1_800_000_000.0


def _trace(age: float, order_id: str | None = "O-1", status: str | None = "success") -> dict[str, Any]:
    return {
        "trace_id": "0" * 32,
        "order_id": order_id,
        "order_status": status,
        "http_status": 503 if status is None else None,
        "start_ns": int((NOW - age) * 1e9),
        "duration_ms": 12.5,
    }


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100), (0.1, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile(list(range(1, 101)), percent) == expected


def test_the_percentiles_of_one_value_are_that_value() -> None:
    assert [percentile([7.0], percent) for percent in (0.1, 50, 99, 100)] == [7.0] * 4


def test_the_rate_counts_orders_whose_spans_have_had_time_to_arrive() -> None:
    too_young, in_time, too_old = EXPORT_SECONDS / 2, EXPORT_SECONDS + 1, EXPORT_SECONDS + RATE_SECONDS + 1
    traces = [_trace(too_young), _trace(in_time), _trace(in_time), _trace(in_time, order_id=None), _trace(too_old)]

    state = orders_state(traces, NOW, "here")

    assert state.per_second == 2 / RATE_SECONDS
    assert len(state.newest) == 4
    assert state.outcomes == {"success": 4}


def test_there_is_no_rate_where_the_list_does_not_reach_back_far_enough() -> None:
    traces = [_trace(EXPORT_SECONDS + 1)] * NEWEST

    assert orders_state(traces, NOW, "here").per_second is None
    assert orders_state([*traces[1:], _trace(60)], NOW, "here").per_second == (NEWEST - 1) / RATE_SECONDS


def test_an_order_without_a_status_is_named_by_its_http_status() -> None:
    assert orders_state([_trace(5, status=None)], NOW, "here").newest[0].status == "HTTP 503"
