"""The types of the exchanges that this process has declared: whether a routing key may stand in a name hangs on them."""

from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika import Exchange

_PREDECLARED = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
_MOST = 1000


class ExchangeTypes:
    """Notes each exchange as it is declared; one that is only looked up says nothing of its type."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = dict(_PREDECLARED)

    def of(self, exchange: str) -> str | None:
        """Give the type of an exchange, or None where it is not known."""
        return self._known.get(exchange)

    def noting(self, declare: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wrap `Exchange.declare`."""

        async def noted(exchange: Exchange, *args: Any, **kwargs: Any) -> Any:
            result = await declare(exchange, *args, **kwargs)
            if not exchange.passive and len(self._known) < _MOST:
                declared = str(exchange._type)
                # Two virtual hosts may hold different exchanges of one name.
                is_new = self._known.setdefault(exchange.name, declared) == declared
                if not is_new:
                    self._known[exchange.name] = None
            return result

        return noted
