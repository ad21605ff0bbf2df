"""Real faults for the scenarios, from outside: a database that is locked or refuses, a consumer that crashes, a dead broker."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aio_pika.abc import AbstractConnection

from shared.contract import topology
from shared.rabbit.losses import LOST
from shared.tools import broker_nodes
from shared.tools.broker_nodes import NoNode
from shared.tools.local.rabbitmq_node import PrivateNode
from shared.tools.local.stack import StackError

TAKE_SECONDS = 10.0
NOTICE_SECONDS = 30.0


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the write lock of a SQLite file, as a backup or a person with a shell does."""
    with contextlib.closing(sqlite3.connect(database, timeout=5.0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def refusing(database: Path, sku: str) -> Iterator[None]:
    """Have a SQLite file refuse every change of one SKU's stock, by a trigger that has nothing to do with anything else."""
    trigger = (
        "CREATE TRIGGER refusing BEFORE UPDATE ON stock WHEN NEW.sku = '{}' "
        "BEGIN SELECT RAISE(ABORT, 'this stock is not to be touched'); END"
    )
    with contextlib.closing(sqlite3.connect(database, timeout=5.0, isolation_level=None)) as connection:
        connection.execute(trigger.format(sku))
        try:
            yield
        finally:
            connection.execute("DROP TRIGGER refusing")


def take_and_vanish(amqp_url: str, order_id: str, times: int, before_last: Callable[[], None]) -> None:
    """Take an order's check from the queue and go away without settling it, each time on a new connection.

    It is what a consumer does that crashes on the check. `before_last` is called while the last one still holds it. Raises
    StackError when another check comes out of the queue.
    """
    asyncio.run(_take_and_vanish(amqp_url, order_id, times, before_last))


async def _take_and_vanish(amqp_url: str, order_id: str, times: int, before_last: Callable[[], None]) -> None:
    try:
        for turn in range(1, times + 1):
            connection, _ = await broker_nodes.connect(amqp_url)
            async with connection:
                await _take(connection, order_id)
                if turn == times:
                    await asyncio.to_thread(before_last)
    except (NoNode, *LOST) as error:
        raise StackError(f"The check of {order_id} could not be taken from its queue: {error}.") from error


async def _take(connection: AbstractConnection, order_id: str) -> None:
    queue = await (await connection.channel()).get_queue(topology.INVENTORY_CHECK, ensure=False)
    deadline = time.monotonic() + TAKE_SECONDS
    # The broker needs a moment to put a check back whose consumer has gone.
    while (message := await queue.get(timeout=TAKE_SECONDS, fail=False)) is None:
        if time.monotonic() > deadline:
            raise StackError(f"The check of {order_id} is not in its queue.")
        await asyncio.sleep(0.01)
    if message.correlation_id != order_id:
        raise StackError(f"{topology.INVENTORY_CHECK} holds checks of others: this broker is in use.")


@contextlib.contextmanager
def killed(node: PrivateNode) -> Iterator[None]:
    """Kill a broker (SIGKILL), and start it again on its files."""
    node.kill()
    try:
        yield
    finally:
        node.restart()


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is so; raises StackError with the sentence `otherwise` after NOTICE_SECONDS."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise StackError(otherwise)
        time.sleep(0.05)
