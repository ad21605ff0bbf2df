"""A receiver for what the services export, over the wire: the official OTLP test server, read through our trace model."""

from collections.abc import Callable, Sequence
from typing import Self

from opentelemetry.test._otlp_test_server import OtlpProtoTestServer

from shared.traces.model import Span
from shared.traces.otlp import decode_origin, decode_span
from tests.waiting import eventually


class Receiver:
    """Receives spans at OpenObserve's path and keeps all of them."""

    def __init__(self) -> None:
        self._server = OtlpProtoTestServer(base_path="/api/default")
        self._spans: list[Span] = []

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        """What OPENOBSERVE_URL is to be."""
        return f"http://127.0.0.1:{self._server.port}"

    def spans(self) -> list[Span]:
        """Give every span that has arrived so far."""
        self._spans += [
            decode_span(new.span, decode_origin(new.resource, new.scope)) for new in self._server.drain_spans()
        ]
        return self._spans

    def trace(self, trace_id: str) -> list[Span]:
        """Give what has arrived of one trace, by start time."""
        return sorted((span for span in self.spans() if span.trace_id == trace_id), key=lambda span: span.start_ns)

    def linking_into(self, trace_id: str) -> list[Span]:
        """Give the spans of other traces that link into one."""
        return [
            span
            for span in self.spans()
            if span.trace_id != trace_id and any(link.trace_id == trace_id for link in span.links)
        ]

    def wait_for_trace(
        self, trace_id: str, is_complete: Callable[[Sequence[Span]], bool], within: float = 15.0
    ) -> list[Span]:
        """Wait until a trace is complete, by the caller's own measure."""

        def complete() -> list[Span]:
            spans = self.trace(trace_id)
            return spans if is_complete(spans) else []

        return eventually(complete, within=within, what=f"a complete trace {trace_id}")


def names(spans: Sequence[Span]) -> list[str]:
    """Give the names of spans, sorted."""
    return sorted(span.name for span in spans)
