"""The floor's inventory worker: decided and taken in one transaction, then replied, then acked."""

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import aiormq.exceptions
import uvloop
from opentelemetry.trace import Span

from benchmarks.baselines import telemetry
from benchmarks.baselines.floor import spans
from benchmarks.baselines.floor.broker import Broker, Delivery
from benchmarks.baselines.floor.commits import GroupCommit

SCHEMA = """
    CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, available INTEGER CHECK (available >= 0)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS decisions (order_id TEXT PRIMARY KEY, status TEXT, traceparent TEXT) WITHOUT ROWID"""
_KNOWN = """
    SELECT order_id, status, traceparent FROM decisions WHERE order_id IN (SELECT value FROM json_each(?))"""
_LEVELS = "SELECT sku, available FROM stock WHERE sku IN (SELECT value FROM json_each(?))"
_TAKE = "UPDATE stock SET available = available - ? WHERE sku = ?"
_RECORD = """
    INSERT INTO decisions SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
    FROM json_each(?)"""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check asks for, and in which span."""

    order_id: str
    wanted: Counter[str]
    traceparent: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on an order, and in which span."""

    status: str
    decided_in: str


def decide(connection: sqlite3.Connection, checks: Sequence[Check]) -> list[Decision]:
    """Take stock for each order that was not decided before, all of its items or none, and record the decisions."""
    ids = json.dumps([check.order_id for check in checks])
    decided = {row[0]: Decision(*row[1:]) for row in connection.execute(_KNOWN, (ids,)).fetchall()}
    skus = json.dumps(list({sku for check in checks for sku in check.wanted}))
    levels: dict[str, int] = dict(connection.execute(_LEVELS, (skus,)).fetchall())
    taken: Counter[str] = Counter()
    new = []
    for check in checks:
        if check.order_id in decided:
            continue
        is_there = all(levels.get(sku, 0) - taken[sku] >= quantity for sku, quantity in check.wanted.items())
        if is_there:
            taken += check.wanted
        decision = decided[check.order_id] = Decision("success" if is_there else "out_of_stock", check.traceparent)
        new.append((check.order_id, decision.status, decision.decided_in))
    if taken:
        connection.executemany(_TAKE, [(quantity, sku) for sku, quantity in taken.items()])
    if new:
        connection.execute(_RECORD, (json.dumps(new),))
    return [decided[check.order_id] for check in checks]


class Worker:
    """Answers checks."""

    def __init__(self, broker: Broker, commits: GroupCommit[Check, Decision]) -> None:
        self._broker = broker
        self._commits = commits

    async def take(self, message: Delivery, span: Span) -> None:
        """Decide on a check, durably, and have the decision confirmed on its way back."""
        asked, properties = json.loads(message.body), message.header.properties
        order_id = asked["order_id"]
        wanted: Counter[str] = Counter()
        for item in asked["items"]:
            wanted[item["sku"]] += item["quantity"]
        here = spans.traceparent(span)
        decision = await self._commits.add(Check(order_id, wanted, here), span)
        span.set_attributes(
            {
                "order.id": order_id,
                "order.status": decision.status,
                "inventory.in_stock": decision.status == "success",
            }
        )
        if decision.decided_in != here:
            spans.link_to_previous_attempt(span, decision.decided_in)
        body = json.dumps({"order_id": order_id, "status": decision.status}).encode()
        to = self._broker.replies(properties.reply_to)
        with suppress(aiormq.exceptions.PublishError):  # nobody is there any more to take it
            await self._broker.send(body, to, span, properties.correlation_id, "inventory.decision.v1")


async def main() -> None:
    """Work until the process is ended."""
    broker = await Broker.connect(os.environ["AMQP_URL"])
    initial = json.loads(os.environ["INITIAL_STOCK"])
    file = Path(os.environ["DATABASE_FILE"])
    commits = GroupCommit("commit reservations", file, SCHEMA, decide)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany("INSERT OR IGNORE INTO stock VALUES (?, ?)", list(initial.items()))
    await broker.consume(broker.checks, Worker(broker, commits).take)
    await asyncio.Event().wait()


if __name__ == "__main__":
    telemetry.start("floor-worker")
    uvloop.run(main())
