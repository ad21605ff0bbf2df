"""A receiver for what the services export, over the wire: the official OTLP test server, read through our trace model."""

from collections.abc import Callable, Sequence
from typing import Any, Self

from opentelemetry.test._otlp_test_server import OtlpProtoTestServer

from shared.telemetry import semconv
from shared.tools.traces.model import Span
from shared.tools.traces.otlp import decode_origin, decode_span
from tests.waiting import eventually


class Receiver:
    """Receives spans and metrics at OpenObserve's path; keeps every span, and of each series the latest value."""

    def __init__(self) -> None:
        self._server = OtlpProtoTestServer(base_path="/api/default")
        self._spans: list[Span] = []
        self._values: dict[tuple[str, str, frozenset[tuple[str, str]]], float] = {}

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

    def metric(self, name: str, **attributes: str) -> float | None:
        """Give the latest value of a counter or gauge, summed over every process and series with these attributes.

        None where nothing of it has arrived.
        """
        for new in self._server.drain_metrics():
            instance = _texts(new.resource.attributes).get("service.instance.id", "")
            for point in getattr(new.metric, new.metric.WhichOneof("data") or "gauge").data_points:
                if hasattr(point, "as_int"):
                    series = (new.metric.name, instance, frozenset(_texts(point.attributes).items()))
                    self._values[series] = point.as_int or point.as_double
        wanted = attributes.items()
        found = [value for (named, _, series), value in self._values.items() if named == name and series >= wanted]
        return sum(found) if found else None

    def trace(self, trace_id: str, *, with_commits: bool = False) -> list[Span]:
        """Give what has arrived of one trace, by start time; commits, which are in it or not by who shared them, if asked."""
        found = [span for span in self.spans() if span.trace_id == trace_id and (with_commits or not is_commit(span))]
        return sorted(found, key=lambda span: span.start_ns)

    def linking_into(self, trace_id: str) -> list[Span]:
        """Give the spans of other traces that link into one."""
        return [
            span
            for span in self.spans()
            if span.trace_id != trace_id and any(link.trace_id == trace_id for link in span.links)
        ]

    def wait_for_trace(
        self,
        trace_id: str,
        is_complete: Callable[[Sequence[Span]], bool],
        within: float = 15.0,
        *,
        with_commits: bool = False,
    ) -> list[Span]:
        """Wait until a trace is complete, by the caller's own measure."""

        def complete() -> list[Span]:
            spans = self.trace(trace_id, with_commits=with_commits)
            return spans if is_complete(spans) else []

        return eventually(complete, within=within, what=f"a complete trace {trace_id}")


def is_commit(span: Span) -> bool:
    """Tell whether a span is a group commit."""
    return semconv.BATCH_SIZE in span.attributes


def _texts(attributes: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in attributes}


def names(spans: Sequence[Span]) -> list[str]:
    """Give the names of spans, sorted."""
    return sorted(span.name for span in spans)
