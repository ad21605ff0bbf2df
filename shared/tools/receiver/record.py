"""One trace in the store: its encoded spans, and what the list of traces shows of it."""

from dataclasses import dataclass
from enum import StrEnum

from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.tools.receiver.timeline import Place
from shared.tools.traces.otlp import Origin, decode_value
from shared.tracing.names import ORDER_ID, ORDER_STATUS

_ORDER_PREFIX = b"order."
_MOST_ORDERS = 1_000
"""Orders by which one trace can be found."""
_HTTP_STATUS = "http.response.status_code"


class Shelf(StrEnum):
    """A part of the list of traces that can be looked at by itself."""

    TRACES = "traces"
    """Whatever somebody asked for: all but the group commits."""
    ORDERS = "orders"
    ERRORS = "errors"
    COMMITS = "commits"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One line of the list of traces; `order_id` is the first one seen, `order_status` the one of the last span."""

    trace_id: str
    root: str
    start_ns: int
    duration_ms: float
    services: list[str]
    span_count: int
    errors: int
    order_id: str | None
    order_status: str | None
    http_status: int | None
    """Of a request about an order, where it is an error."""
    refused: int
    """Spans beyond as many as a trace may hold here."""
    links_out: int
    """Links to spans of other traces: for a group commit, the spans that it served."""


class TraceRecord:
    """The spans of one trace by id; the summary is kept up to date span by span, so that listing decodes nothing."""

    __slots__ = (
        "_end_ns",
        "_errors",
        "_http_status",
        "_is_commit",
        "_is_order",
        "_links_out",
        "_root",
        "_root_rank",
        "_services",
        "_status",
        "filed",
        "order_ids",
        "refused",
        "size",
        "spans",
        "start_ns",
    )

    def __init__(self) -> None:
        self.spans: dict[bytes, tuple[Origin, bytes]] = {}
        self.size = self.refused = 0
        self.start_ns, self._end_ns = 2**64, 0
        self.order_ids: dict[str, None] = {}
        self.filed: tuple[Place, frozenset[Shelf]] | None = None
        """Where the store's timelines have it."""
        self._services: dict[str, int] = {}
        self._errors = self._links_out = 0
        self._http_status: int | None = None
        self._status: tuple[int, str | None] = (0, None)
        self._root, self._root_rank = "", (True, 2**64)
        self._is_order = self._is_commit = False

    def add(self, span: otlp.Span, encoded: bytes, origin: Origin, size: int) -> list[str]:
        """Takes a span in; returns the order ids that are new to this trace."""
        self.spans[span.span_id] = (origin, encoded)
        self.size += size
        name, kind = span.name, span.kind
        start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
        self.start_ns = min(self.start_ns, start_ns)
        self._end_ns = max(self._end_ns, end_ns)
        self._errors += span.status.code == otlp.Status.STATUS_CODE_ERROR
        if span.links:
            self._links_out += sum(link.trace_id != span.trace_id for link in span.links)
        # A message makes it an order's too: the trace of a replayed dead letter has no request.
        if kind in (otlp.Span.SPAN_KIND_PRODUCER, otlp.Span.SPAN_KIND_CONSUMER):
            self._is_order = True
        elif kind == otlp.Span.SPAN_KIND_SERVER:
            self._is_order |= name.startswith("POST /orders")
        elif kind in (otlp.Span.SPAN_KIND_INTERNAL, otlp.Span.SPAN_KIND_CLIENT) and not span.parent_span_id:
            self._is_commit |= name.startswith("commit ")
        # The root has no parent; a trace that goes on from a caller's has none, and is named by its first span.
        rank = (bool(span.parent_span_id), start_ns)
        if rank < self._root_rank:
            self._root_rank, self._root = rank, name
        self._services[origin.service] = min(start_ns, self._services.get(origin.service, start_ns))
        # Searching the bytes is far cheaper than walking the attributes of a span that has none of ours.
        looks = _ORDER_PREFIX in encoded or kind == otlp.Span.SPAN_KIND_SERVER
        return self._order(span, end_ns) if looks else []

    @property
    def shelves(self) -> frozenset[Shelf]:
        """Where the list shows it."""
        has_failed = self._errors > 0 or self._status[1] == "error" or (self._http_status or 0) >= 500
        return _SHELVES[self._is_order, self._is_commit, has_failed]

    def summary(self, trace_id: bytes) -> TraceSummary:
        """What the list shows."""
        return TraceSummary(
            trace_id=trace_id.hex(),
            root=self._root,
            start_ns=self.start_ns,
            duration_ms=max(0, self._end_ns - self.start_ns) / 1e6,
            services=sorted(self._services, key=lambda service: self._services[service]),
            span_count=len(self.spans),
            errors=self._errors,
            order_id=next(iter(self.order_ids), None),
            order_status=self._status[1],
            http_status=self._http_status,
            refused=self.refused,
            links_out=self._links_out,
        )

    def _order(self, span: otlp.Span, end_ns: int) -> list[str]:
        new = []
        for pair in span.attributes:
            key = pair.key
            if key == ORDER_ID:
                order_id = str(decode_value(pair.value))
                if order_id not in self.order_ids and len(self.order_ids) < _MOST_ORDERS:
                    self.order_ids[order_id] = None
                    new.append(order_id)
            elif key == ORDER_STATUS and end_ns >= self._status[0]:
                self._status = (end_ns, str(decode_value(pair.value)))
            elif key == _HTTP_STATUS and pair.value.int_value >= 400:
                self._http_status = pair.value.int_value
        return new


def _shelves(is_order: bool, is_commit: bool, has_failed: bool) -> frozenset[Shelf]:
    own = {Shelf.COMMITS} if is_commit and not is_order else {Shelf.TRACES, *([Shelf.ORDERS] if is_order else [])}
    return frozenset({Shelf.ALL, *own, *([Shelf.ERRORS] if has_failed else [])})


_SHELVES = {
    (is_order, is_commit, has_failed): _shelves(is_order, is_commit, has_failed)
    for is_order in (False, True)
    for is_commit in (False, True)
    for has_failed in (False, True)
}
