"""The dead letters as a page: grouped by reason, with body and trace, to be replayed or dropped by who stands before it.

The letters are looked at when the page is opened and not while it is open: each look takes them out of their queue and puts them
back.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shared.tools.dead_letters import work
from shared.tools.dead_letters.errand import DROP, REPLAY
from shared.tools.dead_letters.letter import DeadLetter
from shared.tools.receiver.document import document
from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.order_form import require_same_origin
from shared.tools.receiver.wording import counted
from shared.tools.tool_error import ToolError

MOST_SHOWN = 200
SECONDS = 15.0
_MOST_BYTES = 4_096
_ERRANDS = {"replay": REPLAY, "drop": DROP}


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Looks at the dead letters of one broker."""

    amqp_url: str

    def routes(self) -> list[Route]:
        """The page, and what its buttons do."""
        return [
            Route("/queues/dead", self.show),
            Route("/queues/dead/{errand}", self.run, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The oldest letters."""
        letters: list[DeadLetter] = []
        total, problem = 0, request.query_params.get("problem", "")[:500]
        try:
            async with asyncio.timeout(SECONDS):
                total = await work.look(self.amqp_url, MOST_SHOWN, letters.append)
        except (ToolError, TimeoutError) as error:
            problem = str(error) or "The broker did not answer in time."
        content = _render(letters, total, problem, request.query_params.get("done", "")[:200])
        return document("Dead letters", content, here="/queues", status=502 if problem and not letters else 200)

    async def run(self, request: Request) -> Response:
        """Replay or drop one letter. Raises HTTPException 403, 404, 413 or 422."""
        require_same_origin(request)
        errand = _ERRANDS.get(request.path_params["errand"])
        if errand is None:
            raise HTTPException(404, "a dead letter is replayed or dropped")
        letter_id = await _letter_id(request)
        said = {}
        try:
            async with asyncio.timeout(SECONDS):
                await work.run_for_named(self.amqp_url, errand, [letter_id], lambda _: None)
            said["done"] = f"{letter_id[:12]} was {errand.done}."
        except (ToolError, TimeoutError) as error:
            said["problem"] = str(error) or "The broker did not answer in time: look whether it was done."
        return RedirectResponse(f"/queues/dead?{urlencode(said)}", 303)


async def _letter_id(request: Request) -> str:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"the form is larger than {_MOST_BYTES} bytes")
    letter_id = parse_qs(body.decode("latin-1")).get("id", [""])[0].strip()
    if not letter_id:
        raise HTTPException(422, "which dead letter?")
    return letter_id


def _render(letters: Sequence[DeadLetter], total: int, problem: str, done: str) -> Markup:
    groups: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault(letter.reason, []).append(letter)
    more = f"The oldest {len(letters)} of {total:,}." if total > len(letters) else None
    return fragment(
        element("div", element("h1", "Dead letters"), element("a", "Queues", href="/queues"), class_="opening"),
        element("p", problem, role="alert", class_="problem") if problem else None,
        element("p", done, role="status") if done else None,
        element("p", "There are none.", class_="empty") if not letters and not problem else None,
        element("p", more, class_="quiet") if more else None,
        *(_group(reason, members) for reason, members in sorted(groups.items(), key=lambda item: -len(item[1]))),
    )


def _group(reason: str, letters: Sequence[DeadLetter]) -> Markup:
    return element(
        "section",
        element("h2", f"{reason} ", element("span", counted(len(letters), "letter"), class_="count")),
        *map(_letter, letters),
    )


def _letter(letter: DeadLetter) -> Markup:
    trace = element("a", "Its trace", href=f"/traces/{letter.trace_id}") if letter.trace_id else None
    facts = [
        element("code", letter.id[:12]),
        element("span", f"order {letter.order_id}") if letter.order_id else None,
        element("span", counted(letter.attempts, "attempt")) if letter.attempts is not None else None,
        element("span", f"died {(letter.died_at or '')[:19].replace('T', ' ')} UTC") if letter.died_at else None,
        element("span", f"from {letter.origin}", class_="quiet"),
        trace,
    ]
    replay = None if letter.is_undecodable else _button("replay", "Replay", letter)
    return element(
        "article",
        element("p", *facts, class_="letter-facts"),
        element("p", letter.detail, class_="quiet") if letter.detail else None,
        element("details", element("summary", "Body"), element("pre", letter.body or "empty", tabindex="0")),
        element("div", replay, _button("drop", "Drop", letter), class_="letter-acts"),
        class_="letter",
    )


def _button(errand: str, label: str, letter: DeadLetter) -> Markup:
    return element(
        "form",
        element("input", type="hidden", name="id", value=letter.digest),
        element("button", label, aria_label=f"{label} {letter.id[:12]}"),
        method="post",
        action=f"/queues/dead/{errand}",
    )
