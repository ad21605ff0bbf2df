"""What the stand-in for OpenObserve stores, and what it refuses: each rule after OpenObserve's own sources.

It runs the SQL of a search in SQLite on the stored columns, so a column that no span brought is an error here as it is there.
"""

import json
import re
import threading
import time
from typing import Any
from zlib import crc32

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.tools.traces.otlp import decode_attributes
from tests.openobserve_promql import Labels, evaluate
from tests.openobserve_rows import log_row, samples_of, span_row
from tests.openobserve_sql import Refused, run_sql

__all__ = ["OpenObserveStandIn", "Refused"]

OLDEST_NS, NEWEST_NS = 5 * 3600 * 10**9, 24 * 3600 * 10**9
"""Spans from outside of this are dropped, by their start."""
_UNSUPPORTED_IN_NAMES = re.compile(r"[:#?\s'\"%&/]")


class OpenObserveStandIn:
    """What is stored: spans as rows, metric streams with their labels, and what was provisioned."""

    def __init__(self, *, allow_loopback: bool = True) -> None:
        self.url = ""
        self.organizations = {"default"}
        self.rows: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.samples: dict[str, list[tuple[float, Labels, float]]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.destinations: dict[str, dict[str, Any]] = {}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        """What was provisioned, in order: method and path of every call that changed something."""
        self._allow_loopback = allow_loopback
        self._lock = threading.Lock()

    def ingest_traces(self, body: bytes) -> int:
        """Store spans as rows of folded columns, and give how many were dropped: too old, or too far ahead."""
        dropped, now = 0, time.time_ns()
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = decode_attributes(of_resource.resource.attributes)
            service = resource.pop("service.name")
            for span in (span for of_scope in of_resource.scope_spans for span in of_scope.spans):
                if not now - OLDEST_NS <= span.start_time_unix_nano <= now + NEWEST_NS:
                    dropped += 1
                    continue
                row = span_row(span, service, resource)
                with self._lock:
                    self.rows.append(row)
        return dropped

    def ingest_logs(self, body: bytes) -> None:
        """Store log records as rows."""
        for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            resource = decode_attributes(of_resource.resource.attributes)
            for record in (record for of_scope in of_resource.scope_logs for record in of_scope.log_records):
                row = log_row(record, resource)
                with self._lock:
                    self.logs.append(row)

    def ingest_metrics(self, body: bytes) -> None:
        """Store the samples of each stream that metrics make."""
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            resource = decode_attributes(of_resource.resource.attributes)
            for metric in (metric for of_scope in of_resource.scope_metrics for metric in of_scope.metrics):
                for stream, when, labels, value in samples_of(metric, resource):
                    with self._lock:
                        self.samples.setdefault(stream, []).append((when, labels, value))

    def streams(self, kind: str) -> list[str]:
        """Name the streams of a kind."""
        with self._lock:
            if kind == "metrics":
                return list(self.samples)
            return ["default"] if (self.rows if kind == "traces" else self.logs) else []

    def evaluate(self, promql: str) -> dict[str, float]:
        """Give what PromQL gives now, by the values of its labels."""
        with self._lock:
            streams = {name: list(samples) for name, samples in self.samples.items()}
        found = evaluate(promql, streams, time.time())
        return {" ".join(value for _, value in sorted(labels)): number for labels, number in found.items()}

    def search(self, query: dict[str, Any], kind: str = "traces") -> list[dict[str, Any]]:
        """Run a query on the rows of its time range; nulls are left out of what it gives."""
        if not query["start_time"] < query["end_time"]:
            raise Refused(400, "the start is not before the end", 20001)
        tables = self._tables(kind)
        if not any(f'"{name}"' in query["sql"] for name in tables):
            raise Refused(400, "Search stream not found: default", 20002)
        hits = run_sql(query["sql"], tables, query["start_time"], query["end_time"])
        return hits[query["from"] : query["from"] + query["size"]]

    def _tables(self, kind: str) -> dict[str, list[dict[str, Any]]]:
        with self._lock:
            if kind == "metrics":
                return {
                    name: [
                        {"_timestamp": int(when * 1e6), "value": value, **dict(labels)}
                        for when, labels, value in samples
                    ]
                    for name, samples in self.samples.items()
                }
            rows = self.rows if kind == "traces" else self.logs
            return {"default": list(rows)} if rows else {}

    def put_dashboard(self, identifier: str, body: dict[str, Any], given_hash: str | None) -> dict[str, Any]:
        """Store a dashboard and give it as it is answered; one that is there needs the hash of what it replaces."""
        if (stored := self.dashboards.get(identifier)) is not None:
            if given_hash is None or not given_hash.isdecimal():
                raise Refused(500, "Request to update existing dashboard with missing or invalid hash value. BUG")
            if given_hash != stored["hash"]:
                raise Refused(409, "Conflict: Failed to save due to concurrent changes.")
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
        if body["stream_name"] not in self.streams(body["stream_type"]):
            raise Refused(404, f"Stream {body['stream_name']} not found")
        condition = body["query_condition"]
        if condition["type"] != "sql" or not condition.get("sql"):
            raise Refused(400, "Alert with SQL mode should have a query")
        if re.match(r"(?i)\s*select\s+\*", condition["sql"]):
            raise Refused(400, "Alert with SQL can not contain SELECT * in the SQL query")
        if not isinstance(body["trigger_condition"]["period"], int):
            raise Refused(400, "invalid type for period")
