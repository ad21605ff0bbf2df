import io
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style

from shared.tools.traces.model import Link, Span
from shared.tools.traces.timebar import Axis, bar
from shared.tools.traces.waterfall import svg, waterfall

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
START = 1_790_000_000_000_000_000


def a_span(
    number: int, parent: int | None, name: str, kind: str, service: str, start_ms: float, end_ms: float, *links: Link
) -> Span:
    return Span(
        trace_id=TRACE_ID,
        span_id=f"{number:016x}",
        parent_span_id=None if parent is None else f"{parent:016x}",
        name=name,
        kind=kind,
        service=service,
        start_ns=START + int(start_ms * 1e6),
        end_ns=START + int(end_ms * 1e6),
        status="UNSET",
        status_message="",
        attributes={},
        links=links,
        events=(),
        resource={},
        scope="",
    )


def link_to(number: int, reason: str, trace_id: str = TRACE_ID) -> Link:
    return Link(trace_id, f"{number:016x}", {"link.reason": reason})


ORDER = [
    a_span(1, None, "POST /orders", "SERVER", "order-api", 0, 20, link_to(5, "reply")),
    a_span(2, 1, "send orders:inventory.check", "PRODUCER", "order-api", 2, 4),
    a_span(
        3, 2, "process orders:inventory.check", "CONSUMER", "inventory-worker", 8, 14, link_to(2, "creation_context")
    ),
    a_span(4, 3, "send order-api.replies.{instance}", "PRODUCER", "inventory-worker", 11, 13),
    a_span(5, 4, "process order-api.replies.{instance}", "CONSUMER", "order-api", 15, 16),
]


def shown(spans: Sequence[Span], linked: Sequence[Span] = (), width: int = 100) -> list[str]:
    """The lines on a terminal that has no colours."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(waterfall(spans, linked))
    return file.getvalue().splitlines()


def coloured(spans: Sequence[Span], width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system="standard", force_terminal=True).print(waterfall(spans))
    return file.getvalue()


def row_of(lines: Sequence[str], text: str) -> str:
    [line] = [line for line in lines if text in line and "↪" not in line]
    return line


def test_a_row_names_the_span_its_service_its_kind_and_its_milliseconds() -> None:
    lines = shown(ORDER, width=140)

    row = row_of(lines, "process orders:inventory.check")

    assert row.split()[1:6] == ["process", "orders:inventory.check", "inventory-worker", "CONSUMER", "6.00"]


def test_rows_are_in_tree_order_with_their_branches() -> None:
    [_, _, *rows] = [line for line in shown(ORDER, width=140) if "↪" not in line]

    starts = ["POST", "└─ send", "   └─ process", "      └─ send", "         └─ process"]
    assert [row[: len(start)] for row, start in zip(rows, starts, strict=True)] == starts


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, 250])
def test_no_line_is_wider_than_the_terminal_and_none_wraps(width: int) -> None:
    commit = a_span(9, None, "commit orders", "INTERNAL", "order-api", 1, 2, link_to(1, "batch_member"))

    lines = shown(ORDER, [replace(commit, trace_id="cc" * 16)], width)

    assert max(cell_len(line) for line in lines) <= width
    assert len(lines) == 2 + 5 + 2 + 1 + 2


def test_a_wide_terminal_is_used_and_a_narrow_one_drops_the_kind_first() -> None:
    wide, narrow, slim = shown(ORDER, width=200), shown(ORDER, width=80), shown(ORDER, width=50)

    assert cell_len(row_of(wide, "POST /orders").rstrip()) == 200
    assert "SERVER" in row_of(wide, "POST /orders")
    assert "SERVER" not in row_of(narrow, "POST /orders")
    assert "order-api" in row_of(narrow, "POST /orders")
    assert "order-api" not in row_of(slim, "POST /orders")
    assert "20.0" in row_of(slim, "POST /orders")


def test_the_time_in_the_queue_leads_to_the_consumers_bar_as_dots() -> None:
    lines = shown(ORDER, width=140)

    assert "·" in row_of(lines, "process orders:inventory.check")
    assert "·" in row_of(lines, "process order-api.replies")
    assert not any("·" in row_of(lines, name) for name in ("POST /orders", "send orders", "send order-api"))


def test_a_failed_span_is_red_and_tells_why() -> None:
    failed = replace(ORDER[2], status="ERROR", status_message="stock is locked")

    text = coloured([*ORDER[:2], failed])

    assert "\x1b[1;31mprocess orders:inventory.check\x1b[0m" in text
    assert "\x1b[1;31m✗ stock is locked\x1b[0m" in text
    assert "1 failed" in text


def test_each_service_has_a_colour_of_its_own() -> None:
    text = coloured(ORDER, width=140)

    assert "\x1b[36morder-api" in text
    assert "\x1b[35minventory-worker" in text


def test_a_link_names_its_reason_and_its_target_or_the_short_ids_of_a_stranger() -> None:
    late = replace(ORDER[4], links=(link_to(0xABCDEF0123456789, "late_reply_to", "bb" * 16),))

    lines = shown([*ORDER[:4], late])

    assert [line.strip(" │") for line in lines if "↪" in line] == [
        "↪ reply → process order-api.replies.{instance}",
        "↪ creation_context → send orders:inventory.check",
        "↪ late_reply_to → trace bbbbbbbb span abcdef01",
    ]


def test_spans_of_other_traces_are_listed_below_with_their_reason_for_this_trace_only() -> None:
    commit = replace(
        a_span(9, None, "commit orders", "INTERNAL", "order-api", 1, 3),
        trace_id="cc" * 16,
        links=(link_to(1, "batch_member"), link_to(7, "batch_member", "dd" * 16)),
    )

    lines = shown(ORDER, [commit])

    below = lines[lines.index("linked from other traces") + 1 :]
    assert below[0].split()[:5] == ["commit", "orders", "order-api", "INTERNAL", "2.00"]
    assert [line.strip() for line in below[1:]] == ["↪ batch_member → POST /orders"]


def test_an_orphan_is_marked() -> None:
    stray = a_span(8, 7, "stray step", "INTERNAL", "order-api", 1, 2)

    lines = shown([*ORDER, stray])

    assert row_of(lines, "stray step").startswith("? stray step")


def test_a_hostile_name_steers_neither_the_terminal_nor_the_layout() -> None:
    hostile = replace(ORDER[0], name="[red]\x1b[2J\nPOST\u202e", service="a\tb")

    lines = shown([hostile])

    assert len(lines) == 4
    assert not any(ord(character) < 32 or character == "\u202e" for line in lines for character in line)
    assert "[red]·[2J·POST·" in lines[2]


def test_a_very_deep_trace_keeps_its_columns() -> None:
    chain = [a_span(n + 1, n or None, f"step {n}", "INTERNAL", "order-api", n, 60) for n in range(60)]

    lines = shown(chain, width=80)

    assert "step 59" in lines[-1]
    assert max(map(cell_len, lines)) <= 80


def test_no_spans_say_so() -> None:
    assert shown([]) == ["no spans"]


def test_the_svg_is_a_document_that_loads_nothing() -> None:
    document = svg(ORDER)

    ElementTree.fromstring(document)  # noqa: S314 - our own output
    assert "inventory-worker" in document
    assert "url(" not in document.replace("url(#", "")


@pytest.mark.parametrize(
    ("start", "end", "plain", "swapped"),
    [
        (0, 80, "██████████", "██████████"),
        (0, 4, "▌         ", "▌         "),
        (4, 8, "▐         ", "▌         "),
        (20, 36, "  ▐█▌     ", "  ▌█▌     "),
        (16, 29, "  █▋      ", "  █▋      "),
        (7, 8, "▕         ", "▉         "),
        (40, 40, "     ▏    ", "     ▏    "),
        (80, 80, "         ▕", "         ▉"),
        (-50, 900, "██████████", "██████████"),
    ],
)
def test_a_bar_starts_and_ends_to_the_eighth_of_a_cell(start: int, end: int, plain: str, swapped: str) -> None:
    axis = Axis(0, 80, cells=10)
    colour = Style(color="cyan")

    assert bar(axis, start, end, colour, queued_ns=None, swap=False).plain == plain
    assert bar(axis, start, end, colour, queued_ns=None, swap=True).plain == swapped
