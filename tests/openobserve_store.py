"""What the stand-in for OpenObserve stores, and what it refuses: each rule after OpenObserve's own sources.

It runs the SQL of a search in SQLite on the stored columns, so a column that no span brought is an error here as it is there.
"""

import json
import re
import sqlite3
import threading
from typing import Any
from zlib import crc32

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.responses import JSONResponse

from shared.tools.traces.otlp import decode_attributes
from tests.openobserve_dashboards import complaints

_UNSUPPORTED_IN_NAMES = re.compile(r"[:#?\s'\"%&/]")
_STATUSES = ("UNSET", "OK", "ERROR")


class Refused(Exception):
    """An answer other than 200, with OpenObserve's own code where it has one."""

    def __init__(self, status: int, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.answer = JSONResponse({"code": code or status, "message": message}, status)


class OpenObserveStandIn:
    """What is stored: spans as rows, metric streams with their labels, and what was provisioned."""

    def __init__(self, *, allow_loopback: bool = True) -> None:
        self.url = ""
        self.rows: list[dict[str, Any]] = []
        self.metrics: dict[str, dict[str, set[str]]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.destinations: dict[str, dict[str, Any]] = {}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        """What was provisioned, in order: method and path of every call that changed something."""
        self._allow_loopback = allow_loopback
        self._lock = threading.Lock()

    def ingest_traces(self, body: bytes) -> None:
        """Store spans as rows of folded columns."""
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = decode_attributes(of_resource.resource.attributes)
            service = resource.pop("service.name")
            for span in (span for of_scope in of_resource.scope_spans for span in of_scope.spans):
                row = _row(span, service, resource)
                with self._lock:
                    self.rows.append(row)

    def ingest_metrics(self, body: bytes) -> None:
        """Note the streams that metrics make, and the labels in each with their values."""
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            resource = decode_attributes(of_resource.resource.attributes)
            for metric in (metric for of_scope in of_resource.scope_metrics for metric in of_scope.metrics):
                kind = metric.WhichOneof("data") or "gauge"
                name = re.sub("[^a-zA-Z0-9_:]+", "_", metric.name)
                streams = [name] if kind != "histogram" else [f"{name}_{part}" for part in ("bucket", "sum", "count")]
                for point in getattr(metric, kind).data_points:
                    labels = {_fold(key): _text(value) for key, value in decode_attributes(point.attributes).items()}
                    labels |= {_fold(key): _text(value) for key, value in resource.items()}
                    for stream in streams:
                        bounds = {"le": "inf"} if stream.endswith("_bucket") else {}
                        for label, value in {**labels, **bounds}.items():
                            self.metrics.setdefault(stream, {}).setdefault(label, set()).add(value)

    def search(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a query on the rows of its time range; nulls are left out of what it gives."""
        if not query["start_time"] < query["end_time"]:
            raise Refused(400, "the start is not before the end", 20001)
        with self._lock:
            rows = list(self.rows)
        if not rows:
            raise Refused(400, "Search stream not found: default", 20002)
        columns = list(dict.fromkeys(column for row in rows for column in row))
        found = [row for row in rows if query["start_time"] <= row["_timestamp"] < query["end_time"]]
        database = sqlite3.connect(":memory:")
        database.row_factory = sqlite3.Row
        try:
            database.execute(f'CREATE TABLE "default" ({", ".join(f"[{column}]" for column in columns)})')
            places = ", ".join("?" * len(columns))
            database.executemany(
                f'INSERT INTO "default" VALUES ({places})', [[row.get(column) for column in columns] for row in found]
            )
            hits = [
                {name: value for name, value in dict(hit).items() if value is not None}
                for hit in database.execute(query["sql"])
            ]
        except sqlite3.Error as error:
            raise Refused(400, f"Search SQL not valid: {error}", 20004) from error
        finally:
            database.close()
        return hits[query["from"] : query["from"] + query["size"]]

    def put_dashboard(self, identifier: str, body: dict[str, Any], given_hash: str | None) -> dict[str, Any]:
        """Store a dashboard and give it as it is answered; one that is there needs the hash of what it replaces."""
        if (stored := self.dashboards.get(identifier)) is not None:
            if given_hash is None or not given_hash.isdecimal():
                raise Refused(500, "Request to update existing dashboard with missing or invalid hash value. BUG")
            if given_hash != stored["hash"]:
                raise Refused(409, "Conflict: Failed to save due to concurrent changes.")
        if found := complaints(body):
            raise Refused(400, "; ".join(found))
        # As the server: what it adds, and what it never keeps.
        kept = {"role": "", "owner": "", "created": "2026-01-01T00:00:00Z", **body, "dashboardId": identifier}
        stored = {"version": 8, "v8": kept, "hash": str(crc32(json.dumps(kept, sort_keys=True).encode()))}
        self.dashboards[identifier] = stored
        return stored

    def check_destination(self, body: dict[str, Any]) -> None:
        """Refuse a destination as the server does."""
        if _UNSUPPORTED_IN_NAMES.search(body["name"]) or not body.get("url"):
            raise Refused(400, "Destination name or url is not valid")
        if not self._allow_loopback and re.match(r"https?://(localhost|127\.|10\.|192\.168\.)", body["url"]):
            raise Refused(400, "Destination URL blocked by SSRF guard: Access to private IP address is not allowed")
        if body.get("template") not in self.templates:
            raise Refused(404, "Template not found")

    def check_alert(self, body: dict[str, Any]) -> None:
        """Refuse an alert as the server does."""
        if not body.get("name") or _UNSUPPORTED_IN_NAMES.search(body["name"]):
            raise Refused(400, "Alert name cannot contain ':', '#', '?', '&', '%', quotes and space characters")
        if not body["destinations"]:
            raise Refused(400, "Alert destination or workflows is required")
        for name in body["destinations"]:
            if name not in self.destinations:
                raise Refused(404, f"Alert destination {name} not found")
        if body["stream_type"] != "traces" or body["stream_name"] != "default" or not self.rows:
            raise Refused(404, f"Stream {body['stream_name']} not found")
        condition = body["query_condition"]
        if condition["type"] != "sql" or not condition.get("sql"):
            raise Refused(400, "Alert with SQL mode should have a query")
        if re.match(r"(?i)\s*select\s+\*", condition["sql"]):
            raise Refused(400, "Alert with SQL can not contain SELECT * in the SQL query")
        if not isinstance(body["trigger_condition"]["period"], int):
            raise Refused(400, "invalid type for period")


def _row(span: Span, service: Any, resource: dict[str, Any]) -> dict[str, Any]:
    """A span as it is stored."""
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
    return {
        **{_fold(f"service_{key}"): _text(value) for key, value in resource.items()},
        **{_fold(key): _text(value) for key, value in decode_attributes(span.attributes).items()},
        **(parent if span.parent_span_id else {}),
        "_timestamp": span.start_time_unix_nano // 1000,
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


def _fold(key: str) -> str:
    return "".join(character if character.isalnum() and character.isascii() else "_" for character in key.lower())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
