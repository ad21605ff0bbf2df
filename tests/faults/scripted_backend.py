"""A telemetry backend that misbehaves as it is told: wrong statuses, redirects, slow answers, none at all."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from shared.tools.traces.model import Span
from shared.tools.traces.otlp import from_otlp


@dataclass(frozen=True)
class Behaviour:
    """How the backend answers."""

    status: int = 200
    rejects: bool = False
    """Whether it answers 200 but refuses every span of the batch."""
    delay: float = 0.0
    """Seconds before each answer."""
    hangs: bool = False
    """Whether it takes the connection and the request, and never answers."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What it answers beside its status, such as a Location."""
    body: bytes | None = None
    """What it answers in place of an OTLP response."""


HEALTHY = Behaviour()


class ScriptedBackend:
    """Takes traces over OTLP/HTTP on one port; its behaviour can change at any time, and it can go away and come back."""

    def __init__(self, behaviour: Behaviour = HEALTHY, take: Callable[[list[Span]], None] | None = None) -> None:
        self.behaviour = behaviour
        self.spans: list[Span] = []
        """What has arrived, unless it goes to `take`, for tests that could not keep it all."""
        self.take = take or self.spans.extend
        self.requests = 0
        self.paths: list[str] = []
        """The path of each request, in order."""
        self.received: list[Mapping[str, str]] = []
        """The headers of each request, in order."""
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._port}/v1/traces"

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def come_back(self) -> None:
        """Listen, on the same port as before."""
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), _handler(self, self._released))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def go_away(self) -> None:
        """Listen no more: connecting is refused."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close every connection too, kept alive or not, as the end of a process does."""
        super().server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that gave up is part of the script."""


def _handler(backend: ScriptedBackend, released: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            behaviour = backend.behaviour
            backend.requests += 1
            backend.paths.append(self.path)
            backend.received.append(dict(self.headers))
            if behaviour.hangs:
                released.wait()
                self.close_connection = True
                return
            released.wait(behaviour.delay)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            spans = from_otlp(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse()
            if behaviour.rejects:
                refused = ExportTracePartialSuccess(rejected_spans=len(spans), error_message="the disk is full")
                answer = ExportTraceServiceResponse(partial_success=refused)
            elif behaviour.status == 200:
                backend.take(spans)
            self._answer(behaviour, answer.SerializeToString() if behaviour.body is None else behaviour.body)

        def _answer(self, behaviour: Behaviour, content: bytes) -> None:
            with contextlib.suppress(OSError):
                self.send_response(behaviour.status)
                for name, value in {"Content-Type": "application/x-protobuf", **behaviour.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
