"""The guarded propagator: whatever the headers hold, it reads a context or none, and never raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.telemetry.propagation import GuardedPropagator

GOOD = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
INNER = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
GUARDED = GuardedPropagator(INNER)

amqp_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text() | st.just(GOOD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_a_good_context_is_read_as_the_wrapped_propagator_reads_it() -> None:
    headers = {"traceparent": GOOD, "tracestate": "a=b", "baggage": "k=v", "x-other": 1}

    assert GUARDED.extract(headers) == INNER.extract(headers) or _span(GUARDED.extract(headers)) == _span(
        INNER.extract(headers)
    )
    assert _span(GUARDED.extract(headers)).is_remote


@pytest.mark.parametrize("value", [42, True, 1.5, b"\xff", None, ["x"], {"a": 1}, "0" * 10_000, "00-zz"])
@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
def test_a_malformed_header_is_no_context(name: str, value: object) -> None:
    context = GUARDED.extract({name: value})

    assert not _span(context).is_valid


def test_a_malformed_baggage_does_not_cost_the_trace() -> None:
    assert _span(GUARDED.extract({"traceparent": GOOD, "baggage": 7})).is_valid


@given(
    st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage", "x"]) | st.text(max_size=5), amqp_values)
)
def test_extraction_never_raises(headers: dict[str, Any]) -> None:
    assert isinstance(GUARDED.extract(headers), Context)


def test_injection_is_that_of_the_wrapped_propagator() -> None:
    context = GUARDED.extract({"traceparent": GOOD})
    headers: dict[str, str] = {}

    GUARDED.inject(headers, context)

    assert headers["traceparent"] == GOOD
    assert GUARDED.fields == INNER.fields


def _span(context: Context) -> trace.SpanContext:
    return trace.get_current_span(context).get_span_context()
