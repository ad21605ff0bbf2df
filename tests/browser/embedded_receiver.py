"""The receiver behind a real socket, and a real SDK that feeds it."""

import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from shared.tools.receiver.asgi import create_app
from shared.tools.receiver.receiver_settings import ReceiverSettings

SETTINGS = ReceiverSettings("root@example.com", "Complex:pass#123", max_body=100_000)
AUTH = (SETTINGS.user, SETTINGS.password)
TOKEN = b64encode(":".join(AUTH).encode()).decode()
PROTOBUF = {"content-type": "application/x-protobuf"}
INGEST = "/api/default/v1/traces"
SECOND = 1_000_000_000

Found = TypeVar("Found")


@contextmanager
def running(settings: ReceiverSettings = SETTINGS) -> Iterator[str]:
    """The app behind a real socket on a free port; yields its URL."""
    app = create_app(settings)
    with serving(app) as url:
        try:
            yield url
        finally:
            app.state.streams.close()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Any ASGI app behind a real socket on a free port; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
    assert not thread.is_alive()


@contextmanager
def provider(url: str, service: str, compression: Compression = Compression.NoCompression) -> Iterator[TracerProvider]:
    """A real SDK that exports every span as it ends."""
    exporter = OTLPSpanExporter(
        f"{url}{INGEST}", headers={"authorization": f"Basic {TOKEN}", "stream-name": "default"}, compression=compression
    )
    made = TracerProvider(resource=Resource({"service.name": service}))
    made.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield made
    finally:
        made.shutdown()


def spans_of(
    number: int, count: int = 1, *, order_id: str = "", links_to: tuple[int, ...] = (), start_ns: int | None = None
) -> ExportTraceServiceRequest:
    """An export of one trace whose id is the number; its spans are 1 to count."""
    request = ExportTraceServiceRequest()
    of_scope = request.resource_spans.add().scope_spans.add()
    for place in range(count):
        span = of_scope.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=(place + 1).to_bytes(8, "big"),
            name=f"step {place}",
            start_time_unix_nano=number * SECOND if start_ns is None else start_ns,
            end_time_unix_nano=number * SECOND + 5_000_000,
        )
        if place:
            span.parent_span_id = (1).to_bytes(8, "big")
        if order_id:
            span.attributes.add(key="order.id").value.string_value = order_id
        for target in links_to:
            span.links.add(trace_id=target.to_bytes(16, "big"), span_id=(1).to_bytes(8, "big"))
    return request


def hex_id(number: int) -> str:
    """The trace id that `spans_of` gives."""
    return f"{number:032x}"


def wait_for(look: Callable[[], Found | None], seconds: float = 10) -> Found:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found
