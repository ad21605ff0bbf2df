"""Those who wait for a transaction that they share."""

import asyncio
from collections.abc import Iterable
from typing import Any

from shared.contract.errors import TracedOrdersError


def fail_all(waiters: Iterable[asyncio.Future[Any]], kind: type[TracedOrdersError], text: str) -> None:
    """Fail all who still wait, each with an error of its own: a traceback grows by every frame that one is raised through."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(kind(text))
