"""The pages as they are without script: what they show, what leads where, and what they let through."""

from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.service_map import Times
from shared.tools.receiver.time_axis import TimeAxis
from shared.tools.traces.queue_wait import Run, queue_wait
from tests.browser.embedded_receiver import AUTH, INGEST, PROTOBUF, SECOND, hex_id, running, spans_of

MS = 1_000_000


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with running() as url, httpx.Client(base_url=url, auth=AUTH) as client:
        yield client


def post(client: httpx.Client, request: ExportTraceServiceRequest) -> None:
    assert client.post(INGEST, content=request.SerializeToString(), headers=PROTOBUF).status_code == 200


def order_of(
    number: int, order_id: str, status: str = "success", *, is_taken: bool = True
) -> ExportTraceServiceRequest:
    """The first three steps of an order: request, send, and 40 ms later the processing of the message."""
    request = spans_of(number, 3 if is_taken else 2, order_id=order_id, start_ns=number * SECOND)
    server, sent, *taken = request.resource_spans[0].scope_spans[0].spans
    server.name, server.kind = "POST /orders", otlp.Span.SPAN_KIND_SERVER
    server.attributes.add(key="order.status").value.string_value = status
    sent.name, sent.kind = "send orders:inventory.check", otlp.Span.SPAN_KIND_PRODUCER
    server.end_time_unix_nano = server.start_time_unix_nano + 100 * MS
    sent.end_time_unix_nano = sent.start_time_unix_nano + 10 * MS
    for span in taken:
        span.name, span.kind = "process orders:inventory.check", otlp.Span.SPAN_KIND_CONSUMER
        span.parent_span_id = sent.span_id
        span.start_time_unix_nano = sent.end_time_unix_nano + 40 * MS
        span.end_time_unix_nano = span.start_time_unix_nano + 20 * MS
    for span in (sent, *taken):
        span.attributes.add(key="messaging.destination.name").value.string_value = "orders:inventory.check"
    return request


def commit_of(number: int, *targets: int) -> ExportTraceServiceRequest:
    request = spans_of(number, links_to=targets)
    [span] = request.resource_spans[0].scope_spans[0].spans
    span.name, span.kind = "commit orders", otlp.Span.SPAN_KIND_INTERNAL
    for link in span.links:
        link.attributes.add(key="link.reason").value.string_value = "batch_member"
    return request


# --- the list -------------------------------------------------------------------------------------------------------


def test_the_list_shows_orders_and_keeps_group_commits_and_errors_apart(client: httpx.Client) -> None:
    post(client, order_of(1, "o-1"))
    post(client, order_of(2, "o-2", "error"))
    post(client, commit_of(3, 1, 2))

    def shown(path: str) -> list[int]:
        text = client.get(path).text
        return [number for number in (1, 2, 3) if f'href="/traces/{hex_id(number)}"' in text]

    assert shown("/") == [1, 2]
    assert shown("/?show=errors") == [2]
    assert shown("/?show=commits") == [3]
    assert shown("/?show=all") == [1, 2, 3]
    assert "serves 2" in client.get("/?show=commits").text
    assert client.get("/?show=nonsense").status_code == 422


@pytest.mark.parametrize(
    ("status", "words"),
    [("success", "success"), ("out_of_stock", "out of stock"), ("error", "error"), ("pending", "pending")],
)
def test_an_outcome_is_said_in_words(client: httpx.Client, status: str, words: str) -> None:
    post(client, order_of(1, "o-1", status))

    for page in ("/", f"/traces/{hex_id(1)}"):
        assert f'<span class="badge {status}">' in client.get(page).text
        assert f"</span> {words}</span>" in client.get(page).text


def test_older_traces_are_a_page_away(client: httpx.Client) -> None:
    for number in range(1, 121):
        post(client, order_of(number, f"o-{number}"))

    pages = []
    path: str | None = "/"
    while path is not None:
        text = client.get(path).text
        pages.append([number for number in range(1, 121) if f'href="/traces/{hex_id(number)}"' in text])
        path = text.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0] if 'rel="next"' in text else None

    assert [len(page) for page in pages] == [50, 50, 20]
    assert sorted(number for page in pages for number in page) == list(range(1, 121))
    assert client.get("/?before=elsewhere").status_code == 422


def test_only_the_newest_page_of_the_list_moves(client: httpx.Client) -> None:
    assert "data-live" in client.get("/").text
    assert "data-live" not in client.get(f"/?before={SECOND}-{hex_id(1)}").text


# --- the search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["o-1", hex_id(0xABCDEF << 104), "abcdef00", " o-1 ", "ABCDEF0000"])
def test_an_order_id_or_the_start_of_a_trace_id_leads_to_the_trace(client: httpx.Client, wanted: str) -> None:
    request = order_of(1, "o-1")
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.trace_id = bytes.fromhex(hex_id(0xABCDEF << 104))
    post(client, request)

    answer = client.get("/search", params={"q": wanted})

    assert (answer.status_code, answer.headers["location"]) == (303, f"/traces/{hex_id(0xABCDEF << 104)}")


def test_an_order_with_several_traces_is_found_as_a_list(client: httpx.Client) -> None:
    post(client, order_of(1, "o-1"))
    post(client, order_of(2, "o-1"))
    post(client, order_of(3, "o-3"))

    text = client.get("/search", params={"q": "o-1"}).text

    assert "2 traces for “o-1”" in text
    assert [f'href="/traces/{hex_id(number)}"' in text for number in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("wanted", ["o-404", "abcdef", "<script>", "ü", "0" * 5000])
def test_a_search_that_finds_nothing_says_so(client: httpx.Client, wanted: str) -> None:
    answer = client.get("/search", params={"q": wanted})

    assert answer.status_code == 404
    assert "Nothing found for" in answer.text
    assert client.get("/search?q=").headers["location"] == "/"


# --- one trace ------------------------------------------------------------------------------------------------------


def test_the_page_links_both_ways(client: httpx.Client) -> None:
    post(client, order_of(1, "o-1"))
    post(client, commit_of(2, 1))
    here, there = hex_id(1), hex_id(2)
    span_id = f"{1:016x}"

    of_order, of_commit = client.get(f"/traces/{here}").text, client.get(f"/traces/{there}").text

    assert f'<a href="/traces/{there}#s-{there}-{span_id}" title="linked from this span">commit orders</a>' in of_order
    assert f'<a href="/traces/{here}#s-{here}-{span_id}" title="links to this span">POST /orders' in of_commit
    assert "POST /orders · o-1</a>" in of_commit
    assert "Linked from other traces" in of_order
    for page, trace_id in ((of_order, here), (of_order, there), (of_commit, there)):
        assert f'id="s-{trace_id}-{span_id}"' in page


def test_the_wait_in_the_queue_is_a_run_with_its_time(client: httpx.Client) -> None:
    post(client, order_of(1, "o-1"))

    text = client.get(f"/traces/{hex_id(1)}").text

    assert '<rect x="10.000%" width="40.000%" class="wait">' in text
    assert "40.0 ms in queue" in text


def test_a_message_that_nobody_has_taken_shows_as_waiting(client: httpx.Client) -> None:
    post(client, order_of(1, "o-1", "pending", is_taken=False))

    text = client.get(f"/traces/{hex_id(1)}").text

    assert 'class="wait open"' in text
    assert "no consumer seen yet" in text


def test_a_trace_of_thousands_of_spans_comes_in_pages(client: httpx.Client) -> None:
    post(client, spans_of(1, 450))
    path = f"/traces/{hex_id(1)}"

    first, last = client.get(path).text, client.get(f"{path}?first=400").text

    assert (first.count('<li id="s-'), last.count('<li id="s-')) == (200, 50)
    assert "spans 1 to 200 of 450" in first
    assert f'href="{path}?first=200"' in first
    assert 'href="/traces/' + hex_id(1) + '?first=200"' in last


def test_a_commit_of_many_orders_folds_its_links(client: httpx.Client) -> None:
    post(client, commit_of(1000, *range(1, 301)))

    text = client.get(f"/traces/{hex_id(1000)}").text

    assert "294 more links" in text


def test_events_stack_traces_and_logs_are_shown_with_the_span(client: httpx.Client) -> None:
    request = order_of(1, "o-1", "error")
    span = request.resource_spans[0].scope_spans[0].spans[2]
    span.status.code, span.status.message = otlp.Status.STATUS_CODE_ERROR, "no such SKU"
    event = span.events.add(name="exception", time_unix_nano=span.start_time_unix_nano)
    event.attributes.add(key="exception.type").value.string_value = "UnknownSku"
    event.attributes.add(key="exception.stacktrace").value.string_value = "Traceback:\n  File <stock.py>"
    post(client, request)
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(severity_text="ERROR")
    record.trace_id, record.span_id = span.trace_id, span.span_id
    record.time_unix_nano = span.start_time_unix_nano
    record.body.string_value = "the check failed"
    client.post("/api/default/v1/logs", content=logs.SerializeToString(), headers=PROTOBUF)

    text = client.get(f"/traces/{hex_id(1)}").text

    assert "✗ no such SKU" in text
    assert "<dd>UnknownSku</dd>" in text
    assert "Traceback:\n  File &lt;stock.py&gt;</pre>" in text
    assert "the check failed" in text
    assert f'href="#s-{hex_id(1)}-{3:016x}"' in text


def test_the_page_of_an_order_just_placed_waits_for_its_trace(client: httpx.Client) -> None:
    path = f"/traces/{hex_id(1)}"

    unknown, placed = client.get(path), client.get(f"{path}?placed=o-1")

    assert (unknown.status_code, placed.status_code) == (404, 200)
    assert "No such trace" in unknown.text
    assert "Order o-1 is placed" in placed.text
    assert '<meta http-equiv="refresh" content="2">' in placed.text


def test_openobserves_deep_link_leads_to_the_trace(client: httpx.Client) -> None:
    query = {"stream": "default", "from": "1", "to": "2", "org_identifier": "default"}

    found = client.get("/web/traces/trace-details", params=query | {"trace_id": hex_id(1)})
    foreign = client.get("/web/traces/trace-details", params=query | {"trace_id": "/evil.example"})

    assert (found.status_code, found.headers["location"]) == (307, f"/traces/{hex_id(1)}")
    assert foreign.status_code == 422


# --- the map --------------------------------------------------------------------------------------------------------


def test_the_map_counts_and_times_what_passes_each_queue(client: httpx.Client) -> None:
    assert "Nothing between services has been traced yet" in client.get("/map").text
    for number in range(1, 21):
        post(client, order_of(number, f"o-{number}"))

    text = client.get("/map").text

    assert "20 sent" in text
    assert "20 processed" in text
    assert "in queue 40.0 ms · p95 40.0 ms" in text
    assert "20 requests" in text
    assert "newest 20 traces" in text


def test_a_percentile_is_the_nearest_rank() -> None:
    times = Times(list(range(1, 21)))

    assert (times.at(0.5), times.at(0.95), times.at(1.0), Times([7]).at(0.5)) == (10, 19, 20, 7)


# --- safety ---------------------------------------------------------------------------------------------------------


def test_hostile_names_do_not_reach_the_page_as_markup(client: httpx.Client) -> None:
    hostile = "'\"><script>alert(1)</script>"
    request = order_of(1, hostile, hostile)
    resource = request.resource_spans[0].resource
    resource.attributes.add(key="service.name").value.string_value = hostile
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.name = span.status.message = hostile
        span.status.code = otlp.Status.STATUS_CODE_ERROR
        span.attributes.add(key=hostile).value.string_value = hostile
        span.attributes.add(key="messaging.destination.template").value.string_value = hostile
        span.links.add(trace_id=(2).to_bytes(16, "big"), span_id=(1).to_bytes(8, "big"))
        span.links[0].attributes.add(key="link.reason").value.string_value = hostile
        span.events.add(name=hostile).attributes.add(key="exception.stacktrace").value.string_value = hostile
    post(client, request)

    paths = ["/", "/?show=all", f"/traces/{hex_id(1)}", "/map"]
    pages = [client.get(path) for path in paths] + [client.get("/", params={"order_id": hostile})]

    for page in pages:
        assert page.status_code == 200
        assert "&lt;script&gt;" in page.text
        assert page.text.count("<script") == 1  # our own
        assert "'\">" not in page.text


@pytest.mark.parametrize("path", ["/", "/map", f"/traces/{hex_id(1)}", "/search?q=nothing"])
def test_pages_load_nothing_from_elsewhere_and_run_no_inline_code(client: httpx.Client, path: str) -> None:
    post(client, order_of(2, "o-2"))

    page = client.get(path)

    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert "://" not in page.text
    assert " style=" not in page.text
    assert "<style" not in page.text


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg"])
def test_the_receiver_serves_its_own_assets(client: httpx.Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 200
    assert client.get(f"/static/../{name}").status_code == 404


def test_impossible_times_do_not_break_a_page(client: httpx.Client) -> None:
    request = order_of(1, "o-1")
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].start_time_unix_nano, spans[0].end_time_unix_nano = 0, 2**64 - 1
    spans[1].start_time_unix_nano, spans[1].end_time_unix_nano = 2**64 - 1, 0
    post(client, request)

    for path in ("/", f"/traces/{hex_id(1)}", "/map"):
        assert client.get(path).status_code == 200


# --- the parts ------------------------------------------------------------------------------------------------------


def test_whatever_is_not_markup_is_escaped() -> None:
    part = element("a", "<b>", Markup("<i>"), None, href='"', class_="x", hidden=True, title=None)

    assert part == '<a href="&quot;" class="x" hidden>&lt;b&gt;<i></a>'
    assert fragment("&", part) == "&amp;" + part


@pytest.mark.parametrize(
    ("sent", "received", "reported_ms", "expected"),
    [
        pytest.param(Run(0, 10 * MS), 50 * MS, 49.0, Run(10 * MS, 50 * MS), id="after the confirm"),
        pytest.param(Run(0, 10 * MS), 8 * MS, 2.0, Run(6 * MS, 8 * MS), id="before the confirm"),
        pytest.param(Run(5 * MS, 10 * MS), 8 * MS, 7.0, Run(5 * MS, 8 * MS), id="not before the send"),
        pytest.param(Run(0, 10 * MS), 8 * MS, None, None, id="nothing reported"),
        pytest.param(Run(5 * MS, 10 * MS), 3 * MS, 1.0, None, id="clocks apart"),
    ],
)
def test_the_wait_lies_between_send_and_processing(
    sent: Run, received: int, reported_ms: float | None, expected: Run | None
) -> None:
    assert queue_wait(sent, received, reported_ms) == expected


@pytest.mark.parametrize(
    ("length_ns", "ticks_ns"),
    [(100 * MS, [20 * MS, 40 * MS, 60 * MS, 80 * MS, 100 * MS]), (7, [2, 4, 6]), (1, [1]), (2_100 * MS, None)],
)
def test_ticks_are_few_and_round(length_ns: int, ticks_ns: list[int] | None) -> None:
    ticks = TimeAxis(0, length_ns).ticks()

    assert ticks == (ticks_ns if ticks_ns is not None else [500 * MS, 1_000 * MS, 1_500 * MS, 2_000 * MS])
