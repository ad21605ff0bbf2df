"""Server-sent events that say only that a page has changed; the page then fetches itself again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

_LOOK_SECONDS = 0.25
_BETWEEN_SECONDS = 0.5
"""At the least between two events: a page under load is fetched twice a second, not for every export."""
_BEAT_SECONDS = 5.0
_LONGEST_SECONDS = 300.0
"""Then the browser connects again: a connection that is dead without saying so holds its place no longer."""


class LiveStreams:
    """The open streams: at most `most` at a time, all ended by `close`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._is_closed = False
        self.count = 0

    def open(self, version: Callable[[], str], seen: str) -> Response:
        """A response that sends the version whenever it is not the one seen last. Raises HTTPException 503."""
        if self.count >= self._most:
            raise HTTPException(503, "too many pages are live already", headers={"Retry-After": "10"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(version, seen), media_type="text/event-stream", headers=headers)

    def close(self) -> None:
        """Ends every stream, or the server would wait for them when it shuts down."""
        self._is_closed = True

    async def _events(self, version: Callable[[], str], seen: str) -> AsyncIterator[str]:
        self.count += 1
        try:
            started = sent = time.monotonic()
            yield "retry: 2000\n\n"
            while not self._is_closed and (now := time.monotonic()) - started < _LONGEST_SECONDS:
                current = version()
                if current != seen and now - sent >= _BETWEEN_SECONDS:
                    seen, sent = current, now
                    yield f"id: {current}\ndata: {current}\n\n"
                elif now - sent >= _BEAT_SECONDS:
                    sent = now
                    yield ": still here\n\n"
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.count -= 1
