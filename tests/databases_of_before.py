"""The databases that commit 2e79055 left behind: its tables, by their literal SQL, with orders and decisions in them."""

import json
import sqlite3
import time

from tests.postgres import connect

ORDERS = """
CREATE TABLE orders (
    order_id TEXT NOT NULL, lines TEXT NOT NULL, customer TEXT, created_at DOUBLE PRECISION NOT NULL, traceparent TEXT,
    status TEXT NOT NULL, reason TEXT, decided_at DOUBLE PRECISION, ask_at DOUBLE PRECISION NOT NULL,
    ask_delay DOUBLE PRECISION NOT NULL, PRIMARY KEY (order_id)
);
CREATE INDEX orders_to_ask ON orders (ask_at) WHERE status = 'pending';
"""
INVENTORY = """
CREATE TABLE stock (sku TEXT NOT NULL, available BIGINT NOT NULL CHECK (available >= 0), PRIMARY KEY (sku));
CREATE TABLE decisions (
    order_id TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, decided_at DOUBLE PRECISION NOT NULL, traceparent TEXT,
    PRIMARY KEY (order_id)
);
"""


def an_order(order_id: str, status: str = "pending", decided_at: float | None = None) -> str:
    """Give the INSERT with which an instance of that version stores an order for one widget, due since it was placed."""
    lines = json.dumps([["widget", 1]])
    return (
        "INSERT INTO orders (order_id, lines, customer, created_at, traceparent, status, decided_at, ask_at, ask_delay)"
        f" VALUES ('{order_id}', '{lines}', '{{\"id\": \"c-1\", \"email\": null}}', {time.time() - 100}, NULL,"
        f" '{status}', {decided_at or 'NULL'}, {time.time() - 90}, 10.0);"
    )


def a_decision(order_id: str, status: str = "success") -> str:
    """Give the INSERT with which a worker of that version records a decision."""
    return (
        "INSERT INTO decisions (order_id, status, reason, decided_at, traceparent)"
        f" VALUES ('{order_id}', '{status}', NULL, {time.time() - 50}, NULL);"
    )


async def execute(url: str, *statements: str) -> None:
    """Run statements past the services."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as connection:
            connection.executescript("".join(statements))
        connection.close()
    else:
        witness = await connect(url)
        await witness.execute("".join(statements))
        await witness.close()
