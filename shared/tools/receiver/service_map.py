"""Who sends to which queue and who takes from it, with counts and times, drawn from the newest traces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from shared.telemetry import semconv
from shared.tools.receiver.record import Shelf
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.traces.otlp import Origin, decode_value
from shared.tools.traces.queue_wait import Run, queue_wait, reported_wait_ms

TRACES = 500
"""How many of the newest traces the map is drawn from."""
_SPANS_A_TRACE = 200
_DESTINATIONS = 40
HTTP, DATABASE = "HTTP ", "database "
"""How the names of destinations begin that are no queues."""
_DATABASE_NAMES = ("db.namespace", "db.system.name", "db.system")
_WANTED = frozenset(
    {
        semconv.MESSAGING_DESTINATION_NAME,
        semconv.MESSAGING_DESTINATION_TEMPLATE,
        semconv.DELIVERY_QUEUE_WAIT_MS,
        *_DATABASE_NAMES,
    }
)
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = (
    otlp.Span.SPAN_KIND_SERVER,
    otlp.Span.SPAN_KIND_CLIENT,
    otlp.Span.SPAN_KIND_PRODUCER,
    otlp.Span.SPAN_KIND_CONSUMER,
)


class Hop(NamedTuple):
    """A message sent or processed, or a request served (then without a destination)."""

    service: str
    kind: int
    destination: str
    duration_ns: int
    wait_ns: int | None
    failed: bool


@dataclass(slots=True)
class Times:
    """How often something happened and how long it took."""

    durations_ns: list[int] = field(default_factory=list)
    failures: int = 0

    @property
    def count(self) -> int:
        """How often."""
        return len(self.durations_ns)

    def at(self, share: float) -> int:
        """The duration that this share of all does not exceed (nearest rank)."""
        ordered = sorted(self.durations_ns)
        return ordered[max(0, ceil(share * len(ordered)) - 1)]


@dataclass(slots=True)
class ServiceMap:
    """The sums over the traces; edges are keyed by service and destination."""

    traces: int = 0
    requests: dict[str, Times] = field(default_factory=dict)
    sends: dict[tuple[str, str], Times] = field(default_factory=dict)
    processes: dict[tuple[str, str], Times] = field(default_factory=dict)
    waits: dict[str, Times] = field(default_factory=dict)

    @property
    def destinations(self) -> list[str]:
        """Every queue, in the order in which messages pass them."""
        return list(dict.fromkeys(destination for _, destination in [*self.sends, *self.processes]))

    @property
    def services(self) -> list[str]:
        """Every service, those that serve requests first."""
        messaging = [service for service, _ in [*self.sends, *self.processes]]
        return list(dict.fromkeys([*self.requests, *messaging]))

    def add(self, hop: Hop) -> None:
        """Counts one hop."""
        if hop.kind == _SERVER:
            times = self.requests.setdefault(hop.service, Times())
        else:
            edges = self.processes if hop.kind == _CONSUMER else self.sends
            key = (hop.service, hop.destination)
            if key not in edges and len(edges) >= _DESTINATIONS:
                return
            times = edges.setdefault(key, Times())
        times.durations_ns.append(hop.duration_ns)
        times.failures += hop.failed
        if hop.wait_ns is not None:
            self.waits.setdefault(hop.destination, Times()).durations_ns.append(hop.wait_ns)


class ServiceMapper:
    """Draws the map again and again, reading each trace once for as long as it does not grow."""

    def __init__(self, traces: TraceStore) -> None:
        self._traces = traces
        self._read: dict[tuple[bytes, int], list[Hop]] = {}

    def draw(self) -> ServiceMap:
        """The map of the newest traces."""
        service_map = ServiceMap()
        read = {}
        for trace_id, record in reversed(self._traces.newest_records(Shelf.TRACES, TRACES)):
            key = (trace_id, len(record.spans))
            hops = read[key] = self._read.get(key) or _hops(record.spans)
            service_map.traces += 1
            for hop in hops:
                service_map.add(hop)
        self._read = read
        return service_map


def _hops(stored: Mapping[bytes, tuple[Origin, bytes]]) -> list[Hop]:
    """The hops of one trace, earliest first. Reads only what it needs of each span: the map is drawn from thousands."""
    spans: dict[bytes, tuple[Origin, otlp.Span]] = {}
    for span_id, (origin, encoded) in list(stored.items())[:_SPANS_A_TRACE]:
        spans[span_id] = origin, otlp.Span.FromString(encoded)
    by_start = sorted(spans.values(), key=lambda item: item[1].start_time_unix_nano)
    hops = [_hop(origin, span, spans) for origin, span in by_start if span.kind in (_SERVER, _PRODUCER, _CONSUMER)]
    hops += [call for origin, span in by_start if span.kind == _CLIENT for call in _call(origin, span, spans)]
    return hops


def _call(origin: Origin, span: otlp.Span, spans: Mapping[bytes, tuple[Origin, otlp.Span]]) -> list[Hop]:
    """A call of a database, or over HTTP of a service whose span is here too: what is asked, and who answers."""
    attributes = {pair.key: decode_value(pair.value) for pair in span.attributes if pair.key in _WANTED}
    took = max(0, span.end_time_unix_nano - span.start_time_unix_nano)
    failed = span.status.code == otlp.Status.STATUS_CODE_ERROR
    database = next((attributes[name] for name in _DATABASE_NAMES if name in attributes), None)
    if database is not None:
        return [Hop(origin.service, _CLIENT, f"{DATABASE}{database}", took, None, failed)]
    for answering, below in spans.values():
        if below.kind == _SERVER and below.parent_span_id == span.span_id and answering.service != origin.service:
            name = f"{HTTP}{answering.service}"
            served = max(0, below.end_time_unix_nano - below.start_time_unix_nano)
            return [
                Hop(origin.service, _CLIENT, name, took, None, failed),
                Hop(answering.service, _CONSUMER, name, served, None, failed),
            ]
    return []


def _hop(origin: Origin, span: otlp.Span, spans: Mapping[bytes, tuple[Origin, otlp.Span]]) -> Hop:
    attributes = {pair.key: decode_value(pair.value) for pair in span.attributes if pair.key in _WANTED}
    destination = attributes.get(semconv.MESSAGING_DESTINATION_TEMPLATE) or attributes.get(
        semconv.MESSAGING_DESTINATION_NAME
    )
    run = Run(span.start_time_unix_nano, span.end_time_unix_nano)
    wait = None
    _, sender = spans.get(span.parent_span_id, (None, None))
    if span.kind == _CONSUMER and sender is not None and sender.kind == _PRODUCER:
        sent = Run(sender.start_time_unix_nano, sender.end_time_unix_nano)
        wait = queue_wait(sent, run.start_ns, reported_wait_ms(attributes.get(semconv.DELIVERY_QUEUE_WAIT_MS)))
    return Hop(
        service=origin.service,
        kind=span.kind,
        destination=str(destination or "unnamed"),
        duration_ns=max(0, run.duration_ns),
        wait_ns=None if wait is None else wait.duration_ns,
        failed=span.status.code == otlp.Status.STATUS_CODE_ERROR,
    )
