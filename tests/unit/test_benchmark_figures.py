"""What the benchmarks count, and how they judge it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks import python_load, wrk
from benchmarks.contenders import PRODUCT, RPC, UNTRACED
from benchmarks.receiver import summary_of
from benchmarks.rows import Row
from benchmarks.targets import against_targets
from shared.tools.local.ports import LOOPBACK

needs_wrk = pytest.mark.skipif(not wrk.is_installed(), reason="there is no wrk here")


class Customer(BaseHTTPRequestHandler):
    """Answers every third order with 202, which is not decided."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        seen: list[str] = self.server.seen  # type: ignore[attr-defined]
        seen.append(self.path)
        self.send_response(202 if len(seen) % 3 == 0 else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """Run a server, and give its URL and the paths that it was asked for."""
    with ThreadingHTTPServer((LOOPBACK, 0), Customer) as running:
        seen: list[str] = []
        running.seen = seen  # type: ignore[attr-defined]
        thread = Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{running.server_port}", seen
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.parametrize("generator", [python_load, pytest.param(wrk, marks=needs_wrk)], ids=["python", "wrk"])
def test_each_order_has_an_id_of_its_own_and_only_200_counts_as_placed(generator: object) -> None:
    with server() as (url, seen):
        result = generator.run([url], 4, 0.5, None)  # type: ignore[attr-defined]

    assert result.sent == len(seen) == len(set(seen))
    assert all(path.startswith("/orders/create?order_id=") for path in seen)
    assert result.failed == len(seen) // 3
    assert 0 < result.p50 <= result.p99


@pytest.mark.parametrize("generator", [python_load, pytest.param(wrk, marks=needs_wrk)], ids=["python", "wrk"])
def test_load_at_a_rate_goes_to_every_address(generator: object) -> None:
    with server() as (one, to_one), server() as (other, to_other):
        result = generator.run([one, other], 2, 1.0, 40.0)  # type: ignore[attr-defined]

    assert result.sent == len(to_one) + len(to_other)
    assert result.sent <= 44
    assert min(len(to_one), len(to_other)) > 0


def test_parts_of_an_order_are_told_from_transactions_probes_and_internal_spans() -> None:
    def span(name: str, trace: bytes, kind: Span.SpanKind.ValueType, links: int = 0) -> Span:
        return Span(name=name, trace_id=trace, kind=kind, links=[Span.Link()] * links)

    summary = summary_of(
        [
            span("POST /orders/create", b"one", Span.SPAN_KIND_SERVER),
            span("send orders:inventory.check", b"one", Span.SPAN_KIND_PRODUCER),
            span("commit orders", b"one", Span.SPAN_KIND_CLIENT),
            span("commit orders", b"a batch's", Span.SPAN_KIND_CLIENT, links=3),
            span("handle", b"one", Span.SPAN_KIND_INTERNAL),
            span("process orders:inventory.check", b"its request was lost", Span.SPAN_KIND_CONSUMER),
            span("GET /ready", b"a probe", Span.SPAN_KIND_SERVER),
        ]
    )

    assert summary == {"spans": 7, "traces_by_parts": {2: 1, 1: 1}, "served": 4}


def test_a_target_is_met_or_missed_by_the_median_of_the_ratios_and_left_out_where_nothing_was_measured() -> None:
    rows = [
        Row(PRODUCT.name, 64, rate=[900.0, 1000.0, 1100.0], cpu_by_part={"APIs": [2.0] * 3, "workers": [1.0] * 3}),
        Row(RPC.name, 64, rate=[1000.0, 1000.0, 1000.0], cpu_by_part={"APIs": [1.0] * 3, "workers": [1.0] * 3}),
        Row(PRODUCT.name, 1, p50=[1.0], p99=[2.0]),
        Row(UNTRACED.name, 1, p50=[1.0], p99=[1.0]),
    ]

    found = {
        (line["figure"], line["connections"]): (line["measured (min-max)"], line[""]) for line in against_targets(rows)
    }

    assert found == {
        ("orders/s, to patterns.RPC", "64"): ("1.00 (0.90-1.10) x", "met"),
        ("CPU an order, API + worker, to patterns.RPC", "64"): ("1.50 (1.50-1.50) x", "missed"),
        ("p99, to itself untraced", "1"): ("2.00 (2.00-2.00) x", "missed"),
        ("p50, to itself untraced", "1"): ("1.00 (1.00-1.00) x", "met"),
    }
