"""Traces as files and side by side: exported, opened from a file, compared."""

import re
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.tools.receiver.critical_view import render_critical
from shared.tools.receiver.document import document
from shared.tools.receiver.ingest import read_body
from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.order_form import require_same_origin
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.receiver.trace_view import MOST_LINKED, SPANS_A_PAGE, waterfall_of
from shared.tools.receiver.waterfall_view import hatch
from shared.tools.receiver.wording import duration, outcome
from shared.tools.traces.critical_path import critical_path
from shared.tools.traces.model import Span, tree
from shared.tools.traces.otlp_file import to_otlp_json
from shared.tools.traces.otlp_requests import JSON, TRACES, Unreadable

_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Share:
    """What is done with whole traces."""

    traces: TraceStore
    palette: Palette
    max_body: int

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/traces/{trace_id}/export", self.export),
            Route("/open", self.open, methods=["POST"]),
            Route("/compare", self.compare),
        ]

    async def export(self, request: Request) -> Response:
        """A trace and the traces that link to it or that it links to, as a file. Raises HTTPException 404."""
        trace_id = request.path_params["trace_id"].lower()
        spans = self.traces.trace(trace_id)
        if not spans:
            raise HTTPException(404, "no such trace here")
        near = [span.trace_id for span in self.traces.linked_into(trace_id, limit=MOST_LINKED)]
        near += [link.trace_id for span in spans for link in span.links][:MOST_LINKED]
        for other in dict.fromkeys(near):
            if other != trace_id:
                spans += self.traces.trace(other)
        headers = {"Content-Disposition": f'attachment; filename="trace-{trace_id[:12]}.json"'}
        return Response(to_otlp_json(spans) + "\n", media_type="application/json", headers=headers)

    async def open(self, request: Request) -> Response:
        """Take in a file of traces, and say which is the first. Raises HTTPException 400, 403 or 413."""
        require_same_origin(request)
        found = ExportTraceServiceRequest()
        try:
            for line in _requests(await read_body(request, self.max_body)):
                found.MergeFrom(TRACES.decode(line, JSON)[0])
        except Unreadable as error:
            raise HTTPException(400, f"this is no OTLP JSON file: {error}") from None
        self.traces.add(found)
        spans = (
            span for of_resource in found.resource_spans for each in of_resource.scope_spans for span in each.spans
        )
        first = next((span.trace_id.hex() for span in spans if len(span.trace_id) == 16), None)
        if first is None:
            raise HTTPException(400, "there is no span in this file")
        return JSONResponse({"trace": f"/traces/{first}"})

    async def compare(self, request: Request) -> Response:
        """Two traces side by side, each on its own time axis."""
        ids = [request.query_params.get(name, "").strip().lower() for name in ("a", "b")]
        fields = [
            element(
                "label",
                element("span", f"{'First' if name == 'a' else 'Second'} trace id"),
                element("input", name=name, value=value, size=34, maxlength=32, spellcheck="false"),
            )
            for name, value in zip(("a", "b"), ids, strict=True)
        ]
        form = element(
            "form", *fields, element("button", "Compare", class_="primary"), action="/compare", class_="order"
        )
        sides = [self._side(trace_id) for trace_id in ids if trace_id]
        content = fragment(element("h1", "Two traces"), form, hatch(), element("div", *sides, class_="sides"))
        return document("Two traces", content)

    def _side(self, trace_id: str) -> Markup:
        summary = self.traces.summary(trace_id) if _ID.fullmatch(trace_id) else None
        if summary is None:
            return element("section", element("p", f"There is no trace {trace_id[:32]} here.", class_="empty"))
        spans: list[Span] = self.traces.trace(trace_id)
        linked = self.traces.linked_into(trace_id, limit=MOST_LINKED)
        nodes = tree(spans)[:SPANS_A_PAGE]
        shown = frozenset(node.span.span_id for node in nodes)
        title = element("a", summary.root, href=f"/traces/{trace_id}")
        return element(
            "section",
            element("h2", title, " ", element("span", duration(summary.duration_ms * 1e6), class_="count")),
            element("p", summary.order_id or trace_id[:8], " ", outcome(summary)),
            render_critical(critical_path(spans, linked), self.palette),
            waterfall_of(self.traces, self.palette, spans, linked, shown).render(nodes, f"Spans of {summary.root}"),
        )


def _requests(body: bytes) -> list[bytes]:
    """A request in all, or one a line as the Collector writes them."""
    lines = [line for line in body.splitlines() if line.strip()]
    return lines if len(lines) > 1 and all(line.startswith(b"{") for line in lines) else [body]
