"""What the caller of a trace waited for, and the conversation that a trace tells of."""

from itertools import pairwise

import pytest

from shared.tools.traces.critical_path import critical_path, shares
from shared.tools.traces.model import Link, Span
from shared.tools.traces.sequence import arrows_of, sequence_svg

MS = 1_000_000
TRACE = "a" * 32


def _span(
    number: int,
    name: str,
    kind: str,
    start: int,
    end: int,
    parent: int = 0,
    service: str = "order-api",
    *,
    trace_id: str = TRACE,
    links: tuple[Link, ...] = (),
    **attributes: str,
) -> Span:
    return Span(
        trace_id=trace_id,
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else None,
        name=name,
        kind=kind,
        service=service,
        start_ns=start * MS,
        end_ns=end * MS,
        status="UNSET",
        status_message="",
        attributes={key.replace("_", "."): value for key, value in attributes.items()},
        links=links,
        events=(),
        resource={},
        scope="",
    )


WORKER = "inventory-worker"
REPLIES = "order-api.replies.1"
ORDER = [
    _span(1, "POST /orders", "SERVER", 0, 100),
    _span(2, "commit orders", "CLIENT", 2, 12, 1, db_namespace="orders"),
    _span(3, "send orders:inventory.check", "PRODUCER", 12, 20, 1),
    _span(4, "process orders:inventory.check", "CONSUMER", 50, 80, 3, WORKER),
    _span(5, "commit reservations", "CLIENT", 55, 70, 4, WORKER),
    _span(6, "send replies", "PRODUCER", 72, 78, 4, WORKER, messaging_destination_name=REPLIES),
    _span(7, "process replies", "CONSUMER", 85, 98, 6, messaging_destination_name=REPLIES),
    _span(8, "commit orders", "CLIENT", 86, 96, 7),
]


def test_each_moment_of_a_request_is_given_to_what_it_waited_for() -> None:
    parts = critical_path(ORDER)

    assert shares(parts) == {
        "order-api": 4 * MS,
        "store": 10 * MS,
        "broker": 8 * MS,
        "queue": 30 * MS,
        "handler": 7 * MS,
        "commit": 15 * MS,
        "reply": 26 * MS,
    }
    assert (parts[0].start_ns, parts[-1].end_ns) == (0, 100 * MS)
    assert all(one.end_ns == other.start_ns for one, other in pairwise(parts))


def test_a_commit_that_served_several_counts_where_it_served_this_one() -> None:
    link = Link(TRACE, f"{4:016x}", {"link.reason": "batch_member"})
    shared = _span(9, "commit reservations", "CLIENT", 55, 70, 0, WORKER, trace_id="b" * 32, links=(link,))
    alone = [span for span in ORDER if span.span_id != f"{5:016x}"]

    assert shares(critical_path(alone, [shared]))["commit"] == 15 * MS


@pytest.mark.parametrize("spans", [[], [_span(1, "step", "INTERNAL", 0, 5)], [_span(1, "GET /", "SERVER", 5, 5)]])
def test_a_trace_without_a_request_that_takes_time_has_no_critical_path(spans: list[Span]) -> None:
    assert critical_path(spans) == []


def test_parents_in_a_circle_end() -> None:
    circle = [_span(1, "GET /", "SERVER", 0, 10), _span(2, "a", "CLIENT", 1, 2, 3), _span(3, "b", "CLIENT", 1, 2, 2)]

    assert shares(critical_path(circle)) == {"order-api": 10 * MS}


def test_the_conversation_goes_from_the_caller_through_the_queues_and_back() -> None:
    arrows = arrows_of(ORDER)

    assert [(arrow.source, arrow.target) for arrow in arrows] == [
        ("caller", "order-api"),
        ("order-api", "orders"),
        ("order-api", "orders:inventory.check"),
        ("orders:inventory.check", WORKER),
        (WORKER, REPLIES),
        (REPLIES, "order-api"),
        ("order-api", "caller"),
    ]
    assert arrows[3].label == "process after 30 ms"


def test_the_diagram_escapes_what_strangers_have_named_and_bounds_what_it_draws() -> None:
    hostile = [_span(1, "<script>alert(1)</script>", "SERVER", 0, 10, service='"><script>')]
    many = [_span(number, "GET /", "SERVER", number, number + 1) for number in range(1, 200)]

    assert "<script>" not in sequence_svg(arrows_of(hostile))
    assert sequence_svg(arrows_of(many)).count('class="step') == 80
    assert sequence_svg([]) == ""
