"""Relations that outlive a span: contexts that are stored, retries, replays, and batches of many."""

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

import shared.telemetry
from shared.telemetry import carry, fan_in, late_reply_to, previous_attempt, replay_of, resume, semconv, trace_id_of
from shared.telemetry.relations import related_links

SAMPLED, UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


@pytest.mark.parametrize("flags", [SAMPLED, UNSAMPLED])
@pytest.mark.parametrize("state", [{}, {"vendor": "7", "other": "x"}])
def test_a_stored_context_comes_back_with_tracestate_and_flag_and_without_baggage(
    flags: TraceFlags, state: dict[str, str]
) -> None:
    here = SpanContext(17, 4, False, flags, TraceState(list(state.items())))
    inside = trace.set_span_in_context(NonRecordingSpan(here), baggage.set_baggage("customer", "7", Context()))
    token = context.attach(inside)
    line = carry()
    context.detach(token)

    with resume(line):
        found, bags = trace.get_current_span().get_span_context(), baggage.get_all()

    assert (found.trace_id, found.span_id, found.trace_flags) == (17, 4, flags)
    assert dict(found.trace_state.items()) == state
    assert bags == {}
    assert line is not None
    assert "\n" not in line


@pytest.mark.parametrize("line", [None, "", "nonsense", "00-0-0-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01 a=b"])
def test_what_cannot_be_resumed_is_no_context(line: str | None) -> None:
    with resume(line):
        assert not trace.get_current_span().get_span_context().is_valid

    assert trace_id_of(line) is None


def test_nothing_is_carried_where_nothing_is_traced() -> None:
    assert carry() is None


def test_a_trace_that_was_not_kept_has_an_id_and_is_not_linked_to() -> None:
    line = f"00-{17:032x}-{4:016x}-00"

    assert trace_id_of(line) == f"{17:032x}"
    assert trace_id_of(line, if_kept=True) is None


def test_headers_of_a_retry_and_a_replay_become_links(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("failing") as failing:
        headers = previous_attempt() | replay_of(f"00-{17:032x}-{4:016x}-01")

    found = {(link.attributes or {})["link.reason"]: link.context.span_id for link in related_links(headers)}

    assert found == {"previous_attempt": failing.get_span_context().span_id, "replay_of": 4}
    assert related_links({"x-replay-of": 17, "x-previous-attempt": "nonsense"}) == []


def test_a_late_reply_links_to_who_waits_no_more(tracer: trace.Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span("reply"):
        late_reply_to(f"00-{17:032x}-{4:016x}-01 vendor=7")

    (link,) = exporter.get_finished_spans()[0].links
    assert (link.context.span_id, dict(link.attributes or {})) == (4, {"link.reason": "late_reply_to"})


def test_a_batch_of_more_than_the_limit_says_how_many_it_does_not_link_to(
    tracer: trace.Tracer, exporter: InMemorySpanExporter
) -> None:
    members = [SpanContext(17, number, False, SAMPLED if number % 2 else UNSAMPLED) for number in range(1, 401)]

    links, left_out = fan_in(members)
    with tracer.start_as_current_span("commit", links=links, attributes=left_out):
        pass

    (commit,) = exporter.get_finished_spans()
    assert [link.context.span_id for link in commit.links] == list(range(1, 256, 2))
    assert dict(commit.attributes or {}) == {semconv.LINKS_LEFT_OUT: 72}
    assert fan_in(members[:10])[1] == {}


def test_every_name_of_the_public_door_is_there() -> None:
    assert sorted(shared.telemetry.__all__) == sorted({*shared.telemetry._HOMES, "semconv"})
    assert all(getattr(shared.telemetry, name) is not None for name in shared.telemetry.__all__)
    with pytest.raises(AttributeError):
        _ = shared.telemetry.nothing  # type: ignore[attr-defined]
