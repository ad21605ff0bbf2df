"""The frame around every page: head, navigation, search, and the headers that keep foreign code out."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from zlib import crc32

from starlette.responses import HTMLResponse, Response

from shared.tools.receiver.markup import Markup, element, fragment

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Not `no-referrer`: with it a browser hides the origin of a form, and the order form asks for the origin.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


STATIC = Path(__file__).parent / "static"


@functools.cache
def static(name: str) -> str:
    """The address of a static file, with its version: a browser that has an older one fetches this one."""
    return f"/static/{name}?v={crc32((STATIC / name).read_bytes()):08x}"


@dataclass(frozen=True, slots=True)
class Live:
    """Where a page hears that it has changed, and the version it shows."""

    path: str
    version: str


def document(
    title: str,
    *content: str | None,
    here: str = "",
    search: str = "",
    live: Live | None = None,
    reload_seconds: int | None = None,
    status: int = 200,
) -> Response:
    """A whole page. `here` marks the place in the navigation; `reload_seconds` is for browsers without script."""
    main = element(
        "main",
        *content,
        id="main",
        tabindex="-1",
        data_live=live.path if live else None,
        data_version=live.version if live else None,
    )
    page = element("html", _head(title, reload_seconds), element("body", _top(here, search, live), main), lang="en")
    return HTMLResponse(f"<!doctype html>{page}", status, HEADERS)


def _head(title: str, reload_seconds: int | None) -> Markup:
    reload = None
    if reload_seconds is not None:
        reload = element("noscript", element("meta", http_equiv="refresh", content=reload_seconds))
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · Traced Orders"),
        element("link", rel="icon", href=static("icon.svg"), type="image/svg+xml"),
        element("link", rel="stylesheet", href=static("page.css")),
        element("script", src=static("page.js"), defer=True),
        reload,
    )


def _top(here: str, search: str, live: Live | None) -> Markup:
    places = (("/", "Traces"), ("/map", "Service map"), ("/queues", "Queues"), ("/logs", "Logs"))
    links = [element("a", name, href=path, aria_current="page" if path == here else None) for path, name in places]
    find = element(
        "form",
        element(
            "input",
            type="search",
            name="q",
            value=search,
            placeholder="order id or trace id",
            aria_label="Order id or trace id",
            autocomplete="off",
            spellcheck="false",
        ),
        element("button", "Find"),
        role="search",
        action="/search",
        class_="find",
    )
    # The script shows the switch: without it nothing is live.
    switch = element("button", "Live", type="button", id="live-switch", class_="live", aria_pressed="true", hidden=True)
    return fragment(
        element("a", "Skip to the content", href="#main", class_="skip"),
        element(
            "header",
            element("a", "Traced Orders", href="/", class_="brand"),
            element("nav", *links, aria_label="Pages"),
            switch if live else None,
            find,
            class_="top",
        ),
    )


def error_page(status: int, detail: str, headers: Mapping[str, str] | None) -> Response:
    """A refusal as a page."""
    title = HTTPStatus(status).phrase
    content = element("h1", title), element("p", detail, role="alert", class_="problem") if detail else None
    answer = document(title, *content, element("p", element("a", "All traces", href="/")), status=status)
    answer.headers.update(headers or {})
    return answer
