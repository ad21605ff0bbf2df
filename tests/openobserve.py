"""A stand-in for OpenObserve over real HTTP: it refuses what the real one refuses, and stores what it stores.

Written after the sources of OpenObserve (v0.91 to v0.92.2): ingestion of traces and metrics, search, dashboards of version 8
with their checks, templates, destinations with the guard against private addresses, and alerts of the second API. It does not
evaluate PromQL and alerts, and draws nothing.
"""

import gzip
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.tools.traces.otlp_requests import PROTOBUF
from tests.browser.embedded_receiver import serving
from tests.openobserve_store import OpenObserveStandIn, Refused

USER, PASSWORD = "root@example.com", "Traced-orders-1"
INGESTION_TOKEN = "o2oi_0123456789abcdef"
"""As a password it may send telemetry, and nothing else."""


@contextmanager
def openobserve(*, allow_loopback: bool = True) -> Iterator[OpenObserveStandIn]:
    """Run one on a free port."""
    standin = OpenObserveStandIn(allow_loopback=allow_loopback)
    with serving(_app(standin)) as url:
        standin.url = url
        yield standin


def _app(standin: OpenObserveStandIn) -> Starlette:
    expected = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    ingesting = "Basic " + b64encode(f"{USER}:{INGESTION_TOKEN}".encode()).decode()
    ingested: dict[str, Any] = {
        "traces": standin.ingest_traces,
        "metrics": standin.ingest_metrics,
        "logs": standin.ingest_logs,
    }

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ingest(request: Request) -> Response:
        if request.headers.get("content-type") != PROTOBUF:
            raise Refused(400, "Bad Request")
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            dropped = ingested[request.path_params["signal"]](body)
        except DecodeError as error:
            raise Refused(400, f"Invalid proto: {error}") from error
        answer = ExportTraceServiceResponse()
        if dropped:
            answer.partial_success.rejected_spans = dropped
            answer.partial_success.error_message = "too old, or too far ahead"
        return Response(answer.SerializeToString(), media_type=PROTOBUF)

    async def search(request: Request) -> Response:
        try:
            query = dict((await request.json())["query"])
            for name in ("sql", "start_time", "end_time"):
                query[name]
        except (ValueError, KeyError, TypeError) as error:
            # Its framework's own answer to a body that does not deserialize.
            return PlainTextResponse(f"Failed to deserialize the JSON body into the target type: query: {error}", 422)
        hits = standin.search(query, request.query_params.get("type", "logs"))
        return JSONResponse({"took": 1, "hits": hits, "total": len(hits), "from": 0, "size": len(hits)})

    async def streams(request: Request) -> Response:
        kind = request.query_params["type"]
        return JSONResponse({"list": [{"name": name, "stream_type": kind} for name in standin.streams(kind)]})

    async def dashboards(request: Request) -> Response:
        if request.method == "POST":
            body = await request.json()
            standin.writes.append("POST dashboards")
            return JSONResponse(standin.put_dashboard(str(7_000_000 + len(standin.dashboards)), body, None))
        listed = [
            {"dashboard_id": identifier, "title": stored["v8"]["title"], "hash": stored["hash"], "version": 8}
            for identifier, stored in standin.dashboards.items()
        ]
        return JSONResponse({"dashboards": listed})

    async def dashboard(request: Request) -> Response:
        identifier = request.path_params["id"]
        if identifier not in standin.dashboards:
            raise Refused(404, "Dashboard not found")
        if request.method == "GET":
            return JSONResponse(standin.dashboards[identifier])
        standin.writes.append("PUT dashboards")
        return JSONResponse(standin.put_dashboard(identifier, await request.json(), request.query_params.get("hash")))

    async def named(request: Request) -> Response:
        kind, name = request.path_params["kind"], request.path_params.get("name")
        kept = standin.templates if kind == "templates" else standin.destinations
        if request.method == "GET":
            if name not in kept:
                raise Refused(404, f"{kind} not found")
            return JSONResponse(kept[name])
        body = await request.json()
        if kind == "destinations":
            standin.check_destination(body)
        if (request.method == "POST") is (body["name"] in kept):
            raise Refused(400 if request.method == "POST" else 404, "it exists already, or does not")
        kept[body["name"]] = body
        standin.writes.append(f"{request.method} {kind}")
        return JSONResponse({"code": 200, "message": "saved"})

    async def alerts(request: Request) -> Response:
        if request.method == "POST":
            body = await request.json()
            standin.check_alert(body)
            identifier = f"2tMzJ7eUhJKENHwT9QQmL3yG{len(standin.alerts):03}"
            standin.alerts[identifier] = {**body, "id": identifier, "owner": USER, "last_triggered_at": None}
            standin.writes.append("POST alerts")
            return JSONResponse({"code": 200, "message": "Alert saved", "id": identifier})
        listed = [{"alert_id": identifier, "name": alert["name"]} for identifier, alert in standin.alerts.items()]
        return JSONResponse({"list": listed})

    async def alert(request: Request) -> Response:
        identifier = request.path_params["id"]
        if identifier not in standin.alerts:
            raise Refused(404, "Alert not found")
        if request.method == "PUT":
            body = await request.json()
            standin.check_alert(body)
            standin.alerts[identifier] = {**body, "id": identifier}
            standin.writes.append("PUT alerts")
        return JSONResponse(standin.alerts[identifier])

    def guarded(handler: Any) -> Any:
        async def handle(request: Request) -> Response:
            if request.headers.get("authorization") not in {expected, ingesting if handler is ingest else expected}:
                return Response("Unauthorized Access", 401)
            if request.path_params["org"] not in standin.organizations:
                if handler is not ingest:
                    return PlainTextResponse("Organization not found", 404)
                standin.organizations.add(request.path_params["org"])
            try:
                answer: Response = await handler(request)
            except Refused as refused:
                return refused.answer
            return answer

        return handle

    async def passcode(_: Request) -> Response:
        return JSONResponse({"data": {"user": USER, "passcode": INGESTION_TOKEN}})

    v1, v2 = "/api/{org}", "/api/v2/{org}"
    routes = [
        (f"{v1}/v1/{{signal}}", ingest, ["POST"]),
        (f"{v1}/passcode", passcode, ["GET"]),
        (f"{v1}/_search", search, ["POST"]),
        (f"{v1}/streams", streams, ["GET"]),
        (f"{v1}/dashboards", dashboards, ["GET", "POST"]),
        (f"{v1}/dashboards/{{id}}", dashboard, ["GET", "PUT"]),
        (f"{v1}/alerts/{{kind}}", named, ["POST"]),
        (f"{v1}/alerts/{{kind}}/{{name}}", named, ["GET", "PUT"]),
        (f"{v2}/alerts", alerts, ["GET", "POST"]),
        (f"{v2}/alerts/{{id}}", alert, ["GET", "PUT"]),
    ]
    return Starlette(
        routes=[
            Route("/healthz", healthz),
            *(Route(path, guarded(handler), methods=methods) for path, handler, methods in routes),
        ]
    )
