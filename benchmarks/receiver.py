"""A receiver that costs little while it is measured beside: it keeps what comes and looks at it only when asked."""

import asyncio
import gzip
import json
import os
import time
from collections import Counter
from typing import Any

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_bodies: list[bytes] = []
_last = time.monotonic()
_DELAY = float(os.environ.get("RECEIVER_DELAY", "0"))
_PROBES = {"GET /ready", "GET /health"}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Take OTLP at any path that ends in /traces.

    `GET /summary` decodes and forgets it all; `GET /quiet` says for how many seconds nothing came.
    """
    global _last
    if scope["type"] != "http":
        return
    answer = b""
    if scope["method"] == "GET":
        answer = json.dumps(_summary() if scope["path"] == "/summary" else time.monotonic() - _last).encode()
    else:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"].endswith("/traces"):
            _bodies.append(body)
            await asyncio.sleep(_DELAY)
            _last = time.monotonic()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/x-protobuf")]}
    )
    await send({"type": "http.response.body", "body": answer})


def _summary() -> dict[str, Any]:
    """Decode what came since the last time, and count it."""
    found = [
        span
        for body in map(_unpacked, _bodies)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    size = sum(len(_unpacked(body)) for body in _bodies)
    _bodies.clear()
    return {**summary_of(found), "bytes": size}


def summary_of(spans: list[Span]) -> dict[str, Any]:
    """Count spans, before compression, and how many traces have how many parts of an order.

    A part is any span but a probe's, a transaction's or an internal one. `served` counts what the transactions say that
    they served, by links or, where it was one span, as its children.
    """
    parts: Counter[bytes] = Counter()
    served = 0
    for span in spans:
        if span.name.startswith("commit "):
            served += max(1, len(span.links))
        elif span.kind != Span.SPAN_KIND_INTERNAL and span.name not in _PROBES:
            parts[span.trace_id] += 1
    return {"spans": len(spans), "traces_by_parts": Counter(parts.values()), "served": served}


def _unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
