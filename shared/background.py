"""Work that goes on beside a context, and ends with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

PATIENCE_SECONDS = 2.0


@contextlib.asynccontextmanager
async def in_background(
    work: Callable[[], Coroutine[Any, Any, None]], name: str, patience: float = PATIENCE_SECONDS
) -> AsyncIterator[None]:
    """Do some work while the context lasts; cancelled at its end, it has `patience` seconds before it is cancelled again.

    Once may not be enough: a client that is giving a connection up takes the cancellation for its own, and raises its error.
    """
    task = asyncio.create_task(work(), name=name)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=patience)
