"""Reads a trace back: what every reader does, and the reader for the embedded receiver."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from shared.tools.tool_error import ToolError
from shared.tools.traces.model import Span, span_from_json


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans of one trace, and the spans of other traces that link into it, such as group commits."""

    trace_id: str
    spans: Sequence[Span]
    linked: Sequence[Span]


class ReadbackError(ToolError):
    """The backend did not answer as it should; the message is one sentence."""


class Reader(ABC):
    """Reads traces from wherever they went; a context manager that closes its connection."""

    poll_seconds = 0.1

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def trace(self, trace_id: str) -> Trace | None:
        """Read a trace; None while nothing of it has arrived. Raises ReadbackError."""

    @abstractmethod
    def address(self, trace: Trace) -> str:
        """Give where a person's browser finds a trace."""

    @abstractmethod
    def order_address(self, order_id: str) -> str | None:
        """Give where a person's browser finds all that is known of an order; None where there is no such place."""

    def wait_for(self, trace_id: str, is_complete: Callable[[Trace], bool], timeout: float) -> Trace | None:
        """Read a trace again and again until it is complete; after `timeout` seconds give what there is."""
        deadline = time.monotonic() + timeout
        while True:
            trace = self.trace(trace_id)
            if (trace is not None and is_complete(trace)) or time.monotonic() > deadline:
                return trace
            time.sleep(self.poll_seconds)


class TraceReader(Reader):
    """A client of the embedded receiver's JSON interface."""

    def __init__(self, url: str, org: str, headers: dict[str, str]) -> None:
        self._url = url
        # Loopback needs no proxy, and a proxy from the environment would not find it.
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/{org}", headers=headers, timeout=5.0, trust_env=False
        )

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def trace(self, trace_id: str) -> Trace | None:
        """Read a trace; None while nothing of it has arrived. Raises ReadbackError."""
        found = self._get(f"/traces/{trace_id}")
        if found is None:
            return None
        spans, linked = ([span_from_json(span) for span in found[part]] for part in ("spans", "linked"))
        return Trace(trace_id, spans, linked)

    def address(self, trace: Trace) -> str:
        """Give the page of a trace."""
        return f"{self._url.rstrip('/')}/traces/{trace.trace_id}"

    def order_address(self, order_id: str) -> str:
        """Give the list of an order's traces."""
        return f"{self._url.rstrip('/')}/?{urlencode({'order_id': order_id})}"

    def _get(self, path: str) -> Any:
        try:
            response = self._client.get(path)
        except httpx.HTTPError as error:
            raise ReadbackError(f"There is no answer from {self._url}: {error}.") from error
        if response.status_code == 404:
            return None
        if response.status_code == 401:
            raise ReadbackError(f"{self._url} refuses the user or password (OPENOBSERVE_USER, OPENOBSERVE_PASSWORD).")
        if response.is_error:
            raise ReadbackError(f"{self._url} answered {response.status_code}.")
        return response.json()


def is_whole(trace: Trace) -> bool:
    """Tell whether every parent and every link target within the trace has arrived, from request to reply and back."""
    known = {span.span_id for span in trace.spans}
    kinds = [span.kind for span in trace.spans]
    return (
        "SERVER" in kinds
        and kinds.count("CONSUMER") >= kinds.count("PRODUCER")
        and all(span.parent_span_id is None or span.parent_span_id in known for span in trace.spans)
        and all(link.span_id in known for span in trace.spans for link in span.links if link.trace_id == trace.trace_id)
    )


def commits(trace: Trace) -> list[Span]:
    """Give the group commits that served a trace: below the one span that one served, or in a trace of their own."""
    return [span for span in (*trace.spans, *trace.linked) if span.name.startswith("commit ")]
