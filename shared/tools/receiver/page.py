"""The pages for people: the list of traces, one trace, the service map, the search and the order form.

They are whole without script; a script fetches them again when they change. On loopback they need no login (see `auth`).
"""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from shared.tools.receiver.document import STATIC, Live, document
from shared.tools.receiver.find_form import open_file, render_find
from shared.tools.receiver.finding import Wanted, find
from shared.tools.receiver.letter_page import LetterPage
from shared.tools.receiver.list_view import PAGE_SIZE, Listing, render_list
from shared.tools.receiver.live import LiveStreams
from shared.tools.receiver.log_store import LogStore
from shared.tools.receiver.log_view import MOST_LOGS, render_loose_logs
from shared.tools.receiver.map_view import render_map
from shared.tools.receiver.markup import element, fragment
from shared.tools.receiver.order_form import Entry, render_form
from shared.tools.receiver.order_page import placing_route
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.queue_history import QueueHistory
from shared.tools.receiver.queue_page import QueuePage
from shared.tools.receiver.receiver_settings import ReceiverSettings
from shared.tools.receiver.record import Shelf, TraceSummary
from shared.tools.receiver.service_map import ServiceMapper
from shared.tools.receiver.share import Share
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.receiver.trace_view import render_trace, render_waiting

_TRACE_ID = re.compile("[0-9a-f]{32}")
_SHORTENED_TRACE_ID = re.compile("[0-9a-f]{6,32}")
_PLACE = re.compile("([0-9]{1,20})-([0-9a-f]{32})")


def routes(
    traces: TraceStore, logs: LogStore, queues: QueueHistory, streams: LiveStreams, settings: ReceiverSettings
) -> list[Route | Mount]:
    """The paths of the pages, and OpenObserve's deep link to a trace, which leads to ours."""
    pages = _Pages(traces, logs, streams, settings)
    routes: list[Route | Mount] = [
        Route("/", pages.index),
        Route("/search", pages.search),
        Route("/map", pages.service_map),
        Route("/live", pages.live),
        Route("/traces/{trace_id}", pages.trace),
        Route("/traces/{trace_id}/live", pages.trace_live),
        *QueuePage(queues, streams, has_letters=settings.amqp_url is not None).routes(),
        Route("/logs", pages.loose_logs),
        Route("/web/traces/trace-details", pages.deep_link),
        *Share(traces, pages.palette, settings.max_body).routes(),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    if settings.amqp_url is not None:
        routes += LetterPage(settings.amqp_url).routes()
    if settings.order_api_url is not None:
        routes.append(placing_route(settings))
    return routes


class _Pages:
    def __init__(self, traces: TraceStore, logs: LogStore, streams: LiveStreams, settings: ReceiverSettings) -> None:
        self._traces, self._logs, self._streams, self._settings = traces, logs, streams, settings
        self.palette = Palette()
        self._mapper = ServiceMapper(traces)

    async def index(self, request: Request) -> Response:
        """The newest traces of a shelf, or all of one order."""
        order_id = request.query_params.get("order_id")
        if order_id is not None:
            return self._list(Listing(self._traces.latest(PAGE_SIZE, order_id=order_id), search=order_id), self._live())
        shelf = _shelf(request.query_params.get("show", Shelf.TRACES))
        before, wanted = _place(request.query_params.get("before")), Wanted.read(request.query_params)
        if wanted:
            found = find(self._traces, wanted, PAGE_SIZE + 1, shelf, before)
        else:
            found = self._traces.latest(PAGE_SIZE + 1, shelf=shelf, before=before)
        has_older = len(found) > PAGE_SIZE
        listing = Listing(found[:PAGE_SIZE], shelf, wanted, self._traces.evicted_traces, before is None, has_older)
        # Further down nothing moves under the reader's eyes.
        return self._list(listing, self._live() if before is None else None)

    async def search(self, request: Request) -> Response:
        """The trace of an order or with an id; a list where there are several."""
        wanted = request.query_params.get("q", "").strip()
        if not wanted:
            return RedirectResponse("/", 303)
        found = self._search(wanted)
        if len(found) == 1:
            return RedirectResponse(f"/traces/{found[0].trace_id}", 303)
        return self._list(Listing(found, search=wanted), live=None, status=200 if found else 404)

    async def trace(self, request: Request) -> Response:
        """One trace, or that nothing of it is here yet."""
        trace_id = request.path_params["trace_id"].lower()
        summary = self._traces.summary(trace_id)
        live = self._live_trace(trace_id)
        if summary is None:
            placed = request.query_params.get("placed")
            return document(
                "Waiting for a trace" if placed else "No such trace",
                render_waiting(trace_id, placed),
                live=live if _TRACE_ID.fullmatch(trace_id) else None,
                reload_seconds=2 if placed else None,
                status=200 if placed else 404,
            )
        first = request.query_params.get("first", "0")
        content = render_trace(
            summary,
            self._traces,
            self._logs.of_trace(trace_id),
            self.palette,
            int(first) if re.fullmatch("[0-9]{1,6}", first) else 0,
            request.query_params.get("span"),
        )
        title = f"{summary.root} {summary.order_id or trace_id[:8]}"
        return document(title, content, search=summary.order_id or "", live=live)

    async def service_map(self, _: Request) -> Response:
        """Services and the queues between them."""
        content = fragment(element("h1", "Service map"), render_map(self._mapper.draw(), self.palette))
        return document("Service map", content, here="/map", live=self._live())

    async def loose_logs(self, _: Request) -> Response:
        """What was logged outside of any trace."""
        return document("Logs", render_loose_logs(self._logs.loose(MOST_LOGS)), here="/logs")

    async def live(self, request: Request) -> Response:
        """Tells the list and the map that something has arrived."""
        return self._streams.open(self._version, request.query_params.get("seen", ""))

    async def trace_live(self, request: Request) -> Response:
        """Tells the page of a trace that it has grown."""
        trace_id = request.path_params["trace_id"].lower()
        return self._streams.open(lambda: self._trace_version(trace_id), request.query_params.get("seen", ""))

    async def deep_link(self, request: Request) -> Response:
        """OpenObserve's address of a trace."""
        trace_id = request.query_params.get("trace_id", "").lower()
        if not _TRACE_ID.fullmatch(trace_id):
            raise HTTPException(422, "trace_id must be 32 hex digits")
        return RedirectResponse(f"/traces/{trace_id}")

    def _search(self, wanted: str) -> list[TraceSummary]:
        found = self._traces.latest(PAGE_SIZE, order_id=wanted)
        if not found and _SHORTENED_TRACE_ID.fullmatch(wanted.lower()):
            found = self._traces.starting_with(wanted.lower(), PAGE_SIZE)
        return found

    def _list(self, listing: Listing, live: Live | None, status: int = 200) -> Response:
        counts = {shelf: self._traces.count(shelf) for shelf in Shelf}
        form = render_form(Entry()) if self._settings.order_api_url is not None and listing.search is None else None
        # The form stays outside of what is swapped: nobody's typing is lost.
        content = element("div", render_list(listing, counts, self.palette), id="live")
        heading = element("div", element("h1", "Traces"), form, open_file(), class_="opening")
        narrow = None
        if listing.search is None:
            narrow = render_find(listing.wanted, listing.shelf, self._traces.services())
        return document(
            "Traces", heading, narrow, content, here="/", search=listing.search or "", live=live, status=status
        )

    def _version(self) -> str:
        return str(self._traces.revision)

    def _trace_version(self, trace_id: str) -> str:
        return f"{self._traces.version(trace_id)}.{self._logs.count(trace_id)}"

    def _live(self) -> Live:
        return Live("/live", self._version())

    def _live_trace(self, trace_id: str) -> Live:
        return Live(f"/traces/{trace_id}/live", self._trace_version(trace_id))


def _shelf(text: str) -> Shelf:
    try:
        return Shelf(text)
    except ValueError:
        raise HTTPException(422, f"show must be one of {', '.join(Shelf)}") from None


def _place(text: str | None) -> tuple[int, str] | None:
    """The last line of the page before. Raises HTTPException 422."""
    if text is None:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise HTTPException(422, "before must be the address that a page of the list gave")
    return int(match[1]), match[2]
