"""Traces in bounded memory, indexed for reading.

A span is kept as its protobuf bytes and decoded when somebody reads it: writing costs microseconds, and memory can be
counted. Not thread-safe: one event loop owns a store.
"""

from collections import OrderedDict
from itertools import islice

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.tools.receiver.multi_index import MultiIndex
from shared.tools.receiver.origins import Origins
from shared.tools.receiver.record import Shelf, TraceRecord, TraceSummary
from shared.tools.receiver.shelves import Shelves
from shared.tools.receiver.timeline import Timeline
from shared.tools.traces.model import Span
from shared.tools.traces.otlp import Origin, decode_span

_SPAN_OVERHEAD, _LINK_OVERHEAD = 500, 300
"""Bytes that a span and a link cost beside their encoding: objects and index entries."""


class TraceStore:
    """The newest traces, up to `max_spans` and `max_bytes`; the one that has grown last goes last, each trace as a whole.

    A trace may hold `max_trace_spans`: more are rejected, or one trace could push out all others.
    """

    def __init__(self, max_spans: int = 200_000, max_bytes: int = 256 * 2**20, max_trace_spans: int = 10_000) -> None:
        self._max_spans, self._max_bytes, self._max_trace_spans = max_spans, max_bytes, max_trace_spans
        self._traces: OrderedDict[bytes, TraceRecord] = OrderedDict()
        self._by_order = MultiIndex[str, bytes]()
        self._linkers = MultiIndex[bytes, tuple[bytes, bytes]]()
        """By the trace that they link into: trace and span id."""
        self._shelves = Shelves()
        self._origins = Origins()
        self.span_count = 0
        self.byte_count = 0
        self.evicted_traces = 0
        self.revision = 0
        """Grows with every change, so that a reader can tell whether there is anything new."""

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, request: ExportTraceServiceRequest) -> int:
        """Stores the spans of one export; returns how many were rejected. A span sent twice is stored once."""
        rejected = 0
        touched: set[bytes] = set()
        for of_resource in request.resource_spans:
            for of_scope in of_resource.scope_spans:
                origin = self._origins.of(of_resource.resource, of_scope.scope)
                for span in of_scope.spans:
                    if self._add_span(span, origin):
                        touched.add(span.trace_id)
                    else:
                        rejected += 1
        for trace_id in touched:
            # What still grows goes last.
            self._traces.move_to_end(trace_id)
            self._shelves.file(trace_id, self._traces[trace_id])
        self._evict()
        self.revision += 1
        return rejected

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace in order of arrival; none if it is unknown."""
        trace = self._traces.get(_id_bytes(trace_id))
        return [] if trace is None else [_decode(stored) for stored in trace.spans.values()]

    def span(self, trace_id: str, span_id: str) -> Span | None:
        """One span, as the target of a link."""
        trace = self._traces.get(_id_bytes(trace_id))
        stored = trace.spans.get(_id_bytes(span_id)) if trace else None
        return None if stored is None else _decode(stored)

    def linked_into(self, trace_id: str, span_id: str | None = None, *, limit: int | None = None) -> list[Span]:
        """The spans of other traces that link into a trace, or to one span of it, by start time; the first `limit`."""
        linkers = islice(self._linkers[_id_bytes(trace_id)], limit)
        spans = [_decode(self._traces[of_trace].spans[of_span]) for of_trace, of_span in linkers]
        if span_id is not None:
            wanted = (trace_id, span_id)
            spans = [span for span in spans if any((link.trace_id, link.span_id) == wanted for link in span.links)]
        return sorted(spans, key=lambda span: span.start_ns)

    def latest(
        self,
        limit: int,
        *,
        shelf: Shelf = Shelf.ALL,
        order_id: str | None = None,
        since_ns: int = 0,
        before: tuple[int, str] | None = None,
    ) -> list[TraceSummary]:
        """Summaries, newest start first: of a shelf, or of all traces of one order.

        They start at `since_ns` or later, and come after `before` (start and trace id) in the list.
        """
        place = None if before is None else (before[0], _id_bytes(before[1]))
        timeline = self._shelves[shelf] if order_id is None else self._of_order(order_id)
        return [
            self._traces[trace_id].summary(trace_id)
            for trace_id in timeline.newest(limit, before=place, since_ns=since_ns)
        ]

    def services(self) -> list[str]:
        """Every service that has sent a span of late, by name."""
        return sorted({origin.service for origin in self._origins.known()})

    def count(self, shelf: Shelf) -> int:
        """How many traces a shelf holds."""
        return len(self._shelves[shelf])

    def summary(self, trace_id: str) -> TraceSummary | None:
        """What the list shows of one trace."""
        trace = self._traces.get(_id_bytes(trace_id))
        return None if trace is None else trace.summary(_id_bytes(trace_id))

    def starting_with(self, prefix: str, limit: int) -> list[TraceSummary]:
        """Traces whose hex id starts like this."""
        found = (trace_id for trace_id in self._traces if trace_id.hex().startswith(prefix))
        return [self._traces[trace_id].summary(trace_id) for trace_id in islice(found, limit)]

    def newest_records(
        self, shelf: Shelf, limit: int, before: tuple[int, str] | None = None
    ) -> list[tuple[bytes, TraceRecord]]:
        """The newest traces of a shelf as they are stored, after `before` as in `latest`."""
        place = None if before is None else (before[0], _id_bytes(before[1]))
        return [(trace_id, self._traces[trace_id]) for trace_id in self._shelves[shelf].newest(limit, before=place)]

    def version(self, trace_id: str) -> str:
        """A text that changes when spans of a trace arrive, or links into it."""
        wanted = _id_bytes(trace_id)
        trace = self._traces.get(wanted)
        return f"{len(trace.spans) if trace else 0}.{len(self._linkers[wanted])}"

    def _of_order(self, order_id: str) -> Timeline:
        timeline = Timeline()
        for trace_id in self._by_order[order_id]:
            timeline.add((self._traces[trace_id].start_ns, trace_id))
        return timeline

    def _add_span(self, span: otlp.Span, origin: Origin) -> bool:
        trace_id, span_id = span.trace_id, span.span_id
        if len(trace_id) != 16 or len(span_id) != 8:
            return False
        trace = self._traces.get(trace_id)
        if trace is None:
            trace = self._traces[trace_id] = TraceRecord()
        elif span_id in trace.spans:
            return True
        elif len(trace.spans) >= self._max_trace_spans:
            trace.refused += 1
            return False

        encoded = span.SerializeToString()
        size = len(encoded) + _SPAN_OVERHEAD + _LINK_OVERHEAD * len(span.links)
        self.byte_count += size
        self.span_count += 1
        for order_id in trace.add(span, encoded, origin, size):
            self._by_order.add(order_id, trace_id)
        for link in span.links:
            if link.trace_id != trace_id and len(link.trace_id) == 16:
                self._linkers.add(link.trace_id, (trace_id, span_id))
        return True

    def _evict(self) -> None:
        while self._traces and (self.span_count > self._max_spans or self.byte_count > self._max_bytes):
            trace_id, trace = self._traces.popitem(last=False)
            self.span_count -= len(trace.spans)
            self.byte_count -= trace.size
            self.evicted_traces += 1
            self._shelves.unfile(trace)
            for order_id in trace.order_ids:
                self._by_order.discard(order_id, trace_id)
            for span_id, (_, encoded) in trace.spans.items():
                for link in otlp.Span.FromString(encoded).links:
                    self._linkers.discard(link.trace_id, (trace_id, span_id))


def _decode(stored: tuple[Origin, bytes]) -> Span:
    origin, encoded = stored
    return decode_span(otlp.Span.FromString(encoded), origin)


def _id_bytes(text: str) -> bytes:
    """The bytes of a hex id; no bytes for anything else, which no index holds."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
