"""OTLP over HTTP, as OpenObserve takes it: protobuf, gzip allowed, bounded before and after decompression."""

import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.tools.receiver.log_store import LogStore
from shared.tools.receiver.metric_store import MetricStore
from shared.tools.receiver.trace_store import TraceStore

PROTOBUF = "application/x-protobuf"

Message = TypeVar("Message")


def routes(traces: TraceStore, logs: LogStore, metrics: MetricStore, *, max_body: int) -> list[Route]:
    """The three ingest paths below an organisation. All streams (`stream-name`) and organisations share one store."""

    async def ingest_traces(request: Request) -> Response:
        rejected = traces.add(_parse(ExportTraceServiceRequest.FromString, await _body(request, max_body)))
        answer = ExportTraceServiceResponse()
        if rejected:
            answer.partial_success.rejected_spans = rejected
            answer.partial_success.error_message = "spans without valid ids, or beyond the bound of a trace"
        return _protobuf(answer.SerializeToString())

    async def ingest_logs(request: Request) -> Response:
        logs.add(_parse(ExportLogsServiceRequest.FromString, await _body(request, max_body)))
        return _protobuf(ExportLogsServiceResponse().SerializeToString())

    async def ingest_metrics(request: Request) -> Response:
        metrics.add(_parse(ExportMetricsServiceRequest.FromString, await _body(request, max_body)))
        return _protobuf(ExportMetricsServiceResponse().SerializeToString())

    return [
        Route("/v1/traces", ingest_traces, methods=["POST"]),
        Route("/v1/logs", ingest_logs, methods=["POST"]),
        Route("/v1/metrics", ingest_metrics, methods=["POST"]),
    ]


def _protobuf(content: bytes) -> Response:
    return Response(content, media_type=PROTOBUF)


def _parse(parse: Callable[[bytes], Message], body: bytes) -> Message:
    try:
        return parse(body)
    except DecodeError:
        raise HTTPException(400, "the body is not the protobuf message that this path takes") from None


async def _body(request: Request, limit: int) -> bytes:
    """The decompressed body. Raises HTTPException 400, 413 or 415."""
    if request.headers.get("content-type") != PROTOBUF:
        raise HTTPException(415, f"the content type must be {PROTOBUF}")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, "the content encoding must be gzip or none")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"the body is larger than {limit} bytes")
    return _gunzip(body, limit) if encoding == "gzip" else bytes(body)


def _gunzip(body: bytearray, limit: int) -> bytes:
    """Decompresses, but never further than one byte beyond the limit: a bomb must not go off."""
    unpacked = bytearray()
    rest: Any = body
    try:
        while rest:
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            unpacked += member.decompress(rest, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise HTTPException(413, f"the decompressed body is larger than {limit} bytes")
            if not member.eof:
                raise HTTPException(400, "the gzip body is cut short")
            rest = member.unused_data
    except zlib.error:
        raise HTTPException(400, "the body is not gzip") from None
    return bytes(unpacked)
