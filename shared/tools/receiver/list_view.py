"""The list of traces: newest first, in shelves, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.tools.receiver.finding import Wanted
from shared.tools.receiver.markup import Markup, element, fragment, joined
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.record import Shelf, TraceSummary
from shared.tools.receiver.wording import clock, counted, duration, outcome, service, time_zone

PAGE_SIZE = 50
_SHELF_NAMES = {
    Shelf.TRACES: "Traces",
    Shelf.ORDERS: "Orders",
    Shelf.ERRORS: "Errors",
    Shelf.COMMITS: "Group commits",
    Shelf.ALL: "All",
}
_EMPTY = {
    Shelf.TRACES: "No trace has arrived yet.",
    Shelf.ORDERS: "No order has been traced yet.",
    Shelf.ERRORS: "Nothing has failed.",
    Shelf.COMMITS: "No group commit has been traced yet.",
    Shelf.ALL: "No trace has arrived yet.",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What the list shows: a shelf from its newest trace or from further down, or the traces of one search."""

    traces: Sequence[TraceSummary]
    shelf: Shelf = Shelf.TRACES
    wanted: Wanted = field(default_factory=Wanted)
    evicted: int = 0
    """Traces that made room for these."""
    is_first_page: bool = True
    has_older: bool = False
    search: str | None = None


def render_list(listing: Listing, counts: dict[Shelf, int], palette: Palette) -> Markup:
    """The shelves and the table."""
    return fragment(
        _found(listing) if listing.search is not None else _tabs(listing, counts),
        _table(listing.traces, palette) if listing.traces else None,
        None if listing.traces or listing.search is not None else _nothing(listing),
        _paging(listing),
        _made_room(listing),
    )


def _tabs(listing: Listing, counts: dict[Shelf, int]) -> Markup:
    tabs = [
        element(
            "a",
            name,
            " ",
            element("span", f"{counts[shelf]:,}", class_="count"),
            href=listing.wanted.address(**_shown(shelf)),
            aria_current="page" if shelf is listing.shelf else None,
        )
        for shelf, name in _SHELF_NAMES.items()
    ]
    return element("nav", *tabs, class_="tabs", aria_label="Kinds of traces")


def _shown(shelf: Shelf) -> dict[str, str]:
    return {} if shelf is Shelf.TRACES else {"show": str(shelf)}


def _made_room(listing: Listing) -> Markup | None:
    if not listing.evicted:
        return None
    return element("p", f"{counted(listing.evicted, 'older trace')} made room: memory here is bounded.", class_="quiet")


def _found(listing: Listing) -> Markup:
    everything = element("a", "Back to all traces", href="/")
    if not listing.traces:
        title = element("h2", f"Nothing found for “{listing.search}”")
        hint = element("p", "Search for a whole order id, or for a trace id or its first digits. ", everything)
        return element("section", title, hint, role="status", class_="found")
    title = element("h2", f"{counted(len(listing.traces), 'trace')} for “{listing.search}”")
    return element("section", title, element("p", everything), class_="found")


def _nothing(listing: Listing) -> Markup:
    words = _EMPTY[listing.shelf] if listing.is_first_page else "There is nothing older."
    if listing.wanted:
        words = "Nothing here is like that."
    return element("p", words, class_="empty")


def _table(traces: Sequence[TraceSummary], palette: Palette) -> Markup:
    heads = (
        element("th", f"Started ({time_zone()})", scope="col"),
        element("th", "Trace", scope="col"),
        element("th", "Order", scope="col"),
        element("th", "Outcome", scope="col"),
        element("th", "Duration", scope="col", class_="number"),
        element("th", "Services", scope="col"),
        element("th", "Spans", scope="col", class_="number"),
        element("th", "Errors", scope="col", class_="number"),
    )
    longest = max(trace.duration_ms for trace in traces) or 1
    rows = [_row(trace, longest, palette) for trace in traces]
    return element("table", element("thead", element("tr", *heads)), element("tbody", *rows), class_="traces")


def _row(trace: TraceSummary, longest_ms: float, palette: Palette) -> Markup:
    share = 100 * trace.duration_ms / longest_ms
    colour = palette.css_class(trace.services[0]) if trace.services else ""
    bar = element(
        "svg",
        element("rect", width=f"{share:.1f}%", height="100%", class_=f"bar {colour}"),
        class_="share",
        aria_hidden="true",
    )
    link = element("a", trace.root or "unnamed", href=f"/traces/{trace.trace_id}", class_="to-trace")
    errors = element("strong", f"✗ {trace.errors:,}", class_="failed") if trace.errors else "—"
    return element(
        "tr",
        element("td", clock(trace.start_ns), class_="started"),
        element("td", link, " ", element("code", trace.trace_id[:8], class_="quiet"), class_="root"),
        element("td", trace.order_id or "—", class_="of" if trace.order_id else "nothing", title=trace.order_id),
        element("td", outcome(trace) or "—", class_="outcome"),
        element("td", duration(trace.duration_ms * 1e6), bar, class_="number took"),
        element("td", joined((service(name, palette.css_class(name)) for name in trace.services), " "), class_="who"),
        element("td", f"{trace.span_count:,}", class_="number count"),
        element("td", errors, class_="number" if trace.errors else "number nothing"),
        id=f"t-{trace.trace_id}",
    )


def _paging(listing: Listing) -> Markup | None:
    if listing.search is not None or (listing.is_first_page and not listing.has_older):
        return None
    shelf = _shown(listing.shelf)
    newest = older = None
    if not listing.is_first_page:
        newest = element("a", "↑ newest", href=listing.wanted.address(**shelf))
    if listing.has_older:
        last = listing.traces[-1]
        before = f"{last.start_ns}-{last.trace_id}"
        older = element("a", "older →", href=listing.wanted.address(**shelf, before=before), rel="next")
    return element("nav", newest, older, class_="paging", aria_label="More traces")
