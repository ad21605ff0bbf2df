"""The floor's order API: stored, then asked; recorded, then answered, then acked."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiormq.exceptions
import uvicorn
import uvloop
from opentelemetry.trace import Span, SpanContext

from benchmarks.baselines import telemetry
from benchmarks.baselines.floor import spans
from benchmarks.baselines.floor.broker import Broker, Delivery
from benchmarks.baselines.floor.commits import GroupCommit

REPLY_SECONDS = 5.0
SCHEMA = "CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, traceparent TEXT, status TEXT) WITHOUT ROWID"
_STORE = """
    INSERT INTO orders SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), 'pending' FROM json_each(?) WHERE true
    ON CONFLICT DO NOTHING RETURNING order_id"""
_RECORD = """
    UPDATE orders SET status = json_extract(value, '$[1]') FROM json_each(?)
    WHERE order_id = json_extract(value, '$[0]') AND status = 'pending'"""
_FIND = "SELECT order_id, status FROM orders WHERE order_id IN (SELECT value FROM json_each(?))"

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Placed:
    """A new order."""

    order_id: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What the inventory decided on an order."""

    order_id: str
    status: str


def write(connection: sqlite3.Connection, batch: Sequence[Placed | Decided]) -> list[str | None]:
    """Store and record; gives for each new order None, for one that was there before its status."""
    placed: dict[str, str] = {}
    repeated: dict[int, str] = {}
    for number, each in enumerate(batch):
        if isinstance(each, Placed) and placed.setdefault(each.order_id, each.traceparent) != each.traceparent:
            repeated[number] = "pending"
    decided = [(each.order_id, each.status) for each in batch if isinstance(each, Decided)]
    before: dict[str, str] = {}
    if placed:
        new = {order_id for (order_id,) in connection.execute(_STORE, (json.dumps(list(placed.items())),)).fetchall()}
        if len(new) < len(placed):
            before = dict(connection.execute(_FIND, (json.dumps(list(placed.keys() - new)),)).fetchall())
    if decided:
        connection.execute(_RECORD, (json.dumps(decided),))
    return [
        before.get(each.order_id, repeated.get(number)) if isinstance(each, Placed) else None
        for number, each in enumerate(batch)
    ]


class Api:
    """Bare ASGI: `POST /orders/create?order_id=...` and `GET /ready`."""

    def __init__(self, broker: Broker, commits: GroupCommit[Placed | Decided, str | None], reply_queue: str) -> None:
        self._broker = broker
        self._commits = commits
        self._reply_queue = reply_queue
        self._waiters: dict[str, asyncio.Future[tuple[str, SpanContext]]] = {}

    async def __call__(
        self, scope: Message, _: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Serve a request."""
        if scope["path"] != "/orders/create":
            await _answer(send, 200, {"status": "ready"})
            return
        query = scope["query_string"].decode()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        with spans.server(scope["method"], scope["path"], query, headers, scope["server"]) as span:
            order_id = parse_qs(query)["order_id"][0]
            span.set_attribute("order.id", order_id)
            status = await self._place(order_id, span)
            code = 202 if status == "pending" else 200
            span.set_attributes({"order.status": status, "http.response.status_code": code})
            await _answer(send, code, {"status": status, "order_id": order_id}, spans.trace_id(span))

    async def _place(self, order_id: str, span: Span) -> str:
        before = await self._commits.add(Placed(order_id, spans.traceparent(span)), span)
        if before is not None:
            return before
        waiter: asyncio.Future[tuple[str, SpanContext]] = asyncio.get_running_loop().create_future()
        self._waiters[order_id] = waiter
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                body = json.dumps({"order_id": order_id, "items": [{"sku": "widget", "quantity": 1}]}).encode()
                await self._broker.send(
                    body, self._broker.checks, span, order_id, "inventory.check.v1", self._reply_queue
                )
                status, came_in = await waiter
        except (TimeoutError, aiormq.exceptions.AMQPError):
            return "pending"  # a relay would ask again
        finally:
            del self._waiters[order_id]
        span.add_link(came_in, {"link.reason": "reply"})
        return status

    async def take_reply(self, message: Delivery, span: Span) -> None:
        """Record a decision, and only then let the request that waits for it answer."""
        decision = json.loads(message.body)
        order_id, status = decision["order_id"], decision["status"]
        span.set_attributes({"order.id": order_id, "order.status": status})
        await self._commits.add(Decided(order_id, status), span)
        waiter = self._waiters.get(order_id)
        if waiter is not None and not waiter.done():
            waiter.set_result((status, span.get_span_context()))


async def _answer(
    send: Callable[[Message], Awaitable[None]], status: int, content: Mapping[str, str], trace_id: str = ""
) -> None:
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-trace-id", trace_id.encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main() -> None:
    """Serve until a signal comes."""
    broker = await Broker.connect(os.environ["AMQP_URL"])
    commits = GroupCommit("commit orders", Path(os.environ["DATABASE_FILE"]), SCHEMA, write)
    queue = await broker.own_reply_queue()
    api = Api(broker, commits, queue)
    await broker.consume(broker.replies(queue), api.take_reply)
    config = uvicorn.Config(
        api,
        port=int(os.environ["PORT"]),
        lifespan="off",
        proxy_headers=False,
        http="httptools",
        log_level="warning",
        access_log=False,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    telemetry.start("floor-api")
    uvloop.run(main())
