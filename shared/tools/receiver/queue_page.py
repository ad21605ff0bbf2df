"""The page of the queues, which hears when there is news of them."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.tools.receiver.document import Live, document
from shared.tools.receiver.live import LiveStreams
from shared.tools.receiver.queue_history import QueueHistory
from shared.tools.receiver.queue_view import SPANS, render_queues


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Shows what is known of the queues."""

    history: QueueHistory
    streams: LiveStreams
    has_letters: bool

    def routes(self) -> list[Route]:
        """The page and its news."""
        return [Route("/queues", self.show), Route("/queues/live", self.live)]

    async def show(self, request: Request) -> Response:
        """The queues over the time that is asked for. Raises HTTPException 422."""
        minutes = request.query_params.get("minutes", "15")
        if minutes not in SPANS:
            raise HTTPException(422, f"minutes must be one of {', '.join(SPANS)}")
        content = render_queues(self.history, minutes, has_letters=self.has_letters)
        return document("Queues", content, here="/queues", live=Live("/queues/live", str(self.history.revision)))

    async def live(self, request: Request) -> Response:
        """Tells the page that there is news."""
        return self.streams.open(lambda: str(self.history.revision), request.query_params.get("seen", ""))
