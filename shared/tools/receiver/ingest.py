"""OTLP over HTTP: protobuf or JSON, gzip allowed, bounded before and after decompression."""

import zlib
from collections.abc import Callable
from typing import Any

from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.tools.receiver.log_store import LogStore
from shared.tools.receiver.metric_store import MetricStore
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.traces.otlp_requests import JSON, LOGS, METRICS, PROTOBUF, TRACES, Decoder, Unreadable


def routes(traces: TraceStore, logs: LogStore, metrics: MetricStore, *, max_body: int) -> list[Route]:
    """The three ingest paths, below `/v1`. All streams (`stream-name`) and organisations share one store."""

    def route(path: str, decoder: Decoder[Any], store: Callable[[Any], int], answer: Any, rejected_field: str) -> Route:
        async def ingest(request: Request) -> Response:
            content_type = _content_type(request)
            try:
                found, unreadable = decoder.decode(await read_body(request, max_body), content_type)
            except Unreadable as error:
                raise HTTPException(400, str(error)) from None
            said = answer()
            if rejected := store(found) + unreadable:
                setattr(said.partial_success, rejected_field, rejected)
                said.partial_success.error_message = "without valid ids, unreadable, or beyond the bound of a trace"
            content = MessageToJson(said, indent=None).encode() if content_type == JSON else said.SerializeToString()
            return Response(content, media_type=content_type)

        return Route(path, ingest, methods=["POST"])

    return [
        route("/traces", TRACES, traces.add, trace_pb2.ExportTraceServiceResponse, "rejected_spans"),
        route("/logs", LOGS, logs.add, logs_pb2.ExportLogsServiceResponse, "rejected_log_records"),
        route("/metrics", METRICS, metrics.add, metrics_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
    ]


def _content_type(request: Request) -> str:
    """The type of the body, whatever parameters it has. Raises HTTPException 415."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in (PROTOBUF, JSON):
        raise HTTPException(415, f"the content type must be {PROTOBUF} or {JSON}")
    return found


async def read_body(request: Request, limit: int) -> bytes:
    """The decompressed body. Raises HTTPException 400, 413 or 415."""
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
