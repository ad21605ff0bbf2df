"""Log records in bounded memory, to be read beside the trace they belong to."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1 import logs_pb2 as otlp

from shared.tools.receiver.origins import Origins
from shared.tools.traces.model import Attributes
from shared.tools.traces.otlp import Origin, decode_attributes, decode_value

_SEVERITIES = {number: name.removeprefix("SEVERITY_NUMBER_") for name, number in otlp.SeverityNumber.items()}
_RECORD_OVERHEAD = 300
"""Bytes that a record costs beside its encoding."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One log record as people read it; the ids are empty where it was logged outside of a span."""

    time_ns: int
    severity: str
    body: str
    service: str
    trace_id: str
    span_id: str
    attributes: Attributes


_Stored = tuple[Origin, bytes, bytes]


class LogStore:
    """The newest log records, up to `max_records` and `max_bytes`, found by trace. Not thread-safe."""

    def __init__(self, max_records: int = 50_000, max_bytes: int = 64 * 2**20) -> None:
        self._max_records, self._max_bytes = max_records, max_bytes
        self._records: deque[_Stored] = deque()
        self._by_trace: dict[bytes, deque[_Stored]] = {}
        self._origins = Origins()
        self.byte_count = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, request: ExportLogsServiceRequest) -> int:
        """Stores the records of one export and lets the oldest go; rejects none."""
        for of_resource in request.resource_logs:
            for of_scope in of_resource.scope_logs:
                origin = self._origins.of(of_resource.resource, of_scope.scope)
                for record in of_scope.log_records:
                    self._append((origin, record.trace_id, record.SerializeToString()))
        while len(self._records) > self._max_records or self.byte_count > self._max_bytes:
            self._drop_oldest()
        return 0

    def count(self, trace_id: str) -> int:
        """How many records of a trace are here."""
        return len(self._of(trace_id))

    def of_trace(self, trace_id: str) -> list[LogEntry]:
        """The records logged inside a trace, by time."""
        return sorted((_decode(record) for record in self._of(trace_id)), key=lambda entry: entry.time_ns)

    def loose(self, limit: int) -> list[LogEntry]:
        """The newest records that were logged outside of any trace, the very newest first."""
        outside = (record for record in reversed(self._records) if not record[1])
        return [_decode(record) for record in islice(outside, limit)]

    def _of(self, trace_id: str) -> Collection[_Stored]:
        try:
            return self._by_trace.get(bytes.fromhex(trace_id), ())
        except ValueError:
            return ()

    def _append(self, stored: _Stored) -> None:
        _, trace_id, encoded = stored
        self._records.append(stored)
        self.byte_count += len(encoded) + _RECORD_OVERHEAD
        if trace_id:
            self._by_trace.setdefault(trace_id, deque()).append(stored)

    def _drop_oldest(self) -> None:
        _, trace_id, encoded = self._records.popleft()
        self.byte_count -= len(encoded) + _RECORD_OVERHEAD
        if trace_id:
            # Both queues are in order of arrival: the oldest of all is the oldest of its trace.
            of_trace = self._by_trace[trace_id]
            of_trace.popleft()
            if not of_trace:
                del self._by_trace[trace_id]


def _decode(stored: _Stored) -> LogEntry:
    origin, _, encoded = stored
    record = otlp.LogRecord.FromString(encoded)
    return LogEntry(
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
        severity=record.severity_text or _SEVERITIES.get(record.severity_number, "UNSPECIFIED"),
        body=str(decode_value(record.body)),
        service=origin.service,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        attributes=decode_attributes(record.attributes),
    )
