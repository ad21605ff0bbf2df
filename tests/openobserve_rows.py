"""Spans, log records and samples as OpenObserve stores them, after its own ingestion."""

import json
import re
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.tools.traces.otlp import decode_attributes, decode_value
from tests.openobserve_promql import Labels

_STATUSES = ("UNSET", "OK", "ERROR")
_CLIENT, _PRODUCER = 3, 4


def span_row(span: Span, service: Any, resource: dict[str, Any]) -> dict[str, Any]:
    """Give the row of a span."""
    links = [
        {
            "context": {
                "traceId": link.trace_id.hex(),
                "spanId": link.span_id.hex(),
                "traceFlags": link.flags,
                "traceState": link.trace_state,
            },
            **decode_attributes(link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count,
        }
        for link in span.links
    ]
    events = [
        {"name": event.name, "_timestamp": event.time_unix_nano, **decode_attributes(event.attributes)}
        for event in span.events
    ]
    parent = {
        "reference_parent_span_id": span.parent_span_id.hex(),
        "reference_parent_trace_id": span.trace_id.hex(),
        "reference_ref_type": "ChildOf",
    }
    attributes = decode_attributes(span.attributes)
    return {
        **_texts({f"service_{key}": value for key, value in resource.items()}),
        **_texts(attributes),
        **_inferred(span.kind, attributes),
        **(parent if span.parent_span_id else {}),
        "_timestamp": span.start_time_unix_nano // 1000,
        "_o2_ingest_ts": span.end_time_unix_nano // 1000,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "flags": 1,
        "span_kind": str(span.kind),
        "span_status": _STATUSES[span.status.code],
        "status_code": span.status.code,
        "status_message": span.status.message,
        "operation_name": span.name,
        "service_name": service,
        "start_time": span.start_time_unix_nano,
        "end_time": span.end_time_unix_nano,
        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
        "links": json.dumps(links),
        "events": json.dumps(events),
    }


def _inferred(kind: int, attributes: dict[str, Any]) -> dict[str, str]:
    """Whom a span calls: what its service catalogue and its lists take for a service of its own."""
    if kind not in (_CLIENT, _PRODUCER):
        return {}
    named = (attributes.get(name) for name in ("peer.service", "messaging.destination.name", "db.namespace"))
    called = next((str(value) for value in named if value), None)
    kind_of = "database" if "db.system.name" in attributes else "messaging" if kind == _PRODUCER else "external"
    return {} if called is None else {"infer_service_name": called, "infer_service_type": kind_of}


def log_row(record: LogRecord, resource: dict[str, Any]) -> dict[str, Any]:
    """Give the row of a log record."""
    return {
        **_texts(resource),
        **_texts(decode_attributes(record.attributes)),
        "_timestamp": (record.time_unix_nano or record.observed_time_unix_nano) // 1000,
        "body": str(decode_value(record.body)),
        "severity": record.severity_text,
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
    }


def samples_of(metric: Metric, resource: dict[str, Any]) -> Iterator[tuple[str, float, Labels, float]]:
    """Give the samples that a metric makes: stream, time in seconds, labels, value."""
    kind = metric.WhichOneof("data") or "gauge"
    name = re.sub("[^a-zA-Z0-9_:]+", "_", metric.name)
    for point in getattr(metric, kind).data_points:
        labels = {**_texts(decode_attributes(point.attributes)), **_texts(resource)}
        when = point.time_unix_nano / 1e9
        if kind != "histogram":
            value = point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)
            yield name, when, frozenset(labels.items()), value
            continue
        below = 0
        for bound, count in zip([*point.explicit_bounds, "inf"], point.bucket_counts, strict=True):
            below += count
            yield f"{name}_bucket", when, frozenset({**labels, "le": _text(bound)}.items()), below
        yield f"{name}_sum", when, frozenset(labels.items()), point.sum
        yield f"{name}_count", when, frozenset(labels.items()), point.count


def _texts(values: dict[str, Any]) -> dict[str, str]:
    """Fold keys, and write values as texts; what is empty is not stored."""
    return {_fold(key): _text(value) for key, value in values.items() if value != []}


def _fold(key: str) -> str:
    return "".join(character if character.isalnum() and character.isascii() else "_" for character in key.lower())


def _text(value: Any) -> str:
    """Write a value as Rust does: a whole number without its fraction, items of an array as texts."""
    if isinstance(value, list):
        return json.dumps([_text(item) for item in value])
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
