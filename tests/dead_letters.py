"""Dead letters that nobody had to die for: put into their queue by the test, and counted there."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel

from shared.contract import topology
from shared.contract.messages import CHECK_TYPE
from shared.rabbit.connection import Session
from shared.rabbit.declarations import declare
from shared.tools.cli import main
from tests.environment import plain_environment
from tests.logging_state import logging_as_it_was
from tests.system import VirtualHost

ORDERS = str(Path(sys.executable).with_name("orders"))

Result = TypeVar("Result")


def environment(**more: str) -> dict[str, str]:
    """Give an environment that names no broker and no backend."""
    return plain_environment(COLUMNS="200") | more


@dataclass(frozen=True)
class Done:
    """How a command has ended, and what it has printed."""

    returncode: int
    stdout: str
    stderr: str


def orders(amqp_url: str, *words: str) -> Done:
    """Run `orders dead-letters`."""
    command = ["dead-letters", *words, "--amqp-url", amqp_url]
    # A process takes seconds to start where many do; but what sets telemetry up would do so for the tests after it.
    return _in_a_process(command) if "replay" in words else _here(command)


def _in_a_process(command: Sequence[str]) -> Done:
    done = subprocess.run(
        [ORDERS, *command], env=environment(), capture_output=True, text=True, timeout=180, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _here(command: Sequence[str]) -> Done:
    printed, said, status = StringIO(), StringIO(), 0
    try:
        with (
            logging_as_it_was(),
            patch.object(sys, "argv", ["orders", *command]),
            patch.dict(os.environ, environment(), clear=True),
            redirect_stdout(printed),
            redirect_stderr(said),
        ):
            main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Done(status, printed.getvalue(), said.getvalue())


def succeed(amqp_url: str, *words: str) -> Any:
    """Run it with `--json`, and give what it prints."""
    done = orders(amqp_url, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def fail(amqp_url: str, *words: str, status: int = 1) -> str:
    """Run it, and give the sentence with which it fails."""
    done = orders(amqp_url, *words)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    if status == 1:
        assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def letter(body: bytes = b"{}", **properties: Any) -> Message:
    """Write a dead letter that was a check."""
    return Message(body, **{"type": CHECK_TYPE, "delivery_mode": DeliveryMode.PERSISTENT, **properties})


def put(host: VirtualHost, letters: Sequence[Message]) -> None:
    """Put letters among the dead, in this order, and make all the queues there are."""

    async def publish(channel: AbstractChannel) -> None:
        for message in letters:
            await channel.default_exchange.publish(message, topology.DEAD_LETTERS, timeout=60)

    _declare(host)
    _on_a_channel(host, publish)


def put_without_an_id(host: VirtualHost, body: bytes, **properties: Any) -> None:
    """Put a letter among the dead whose sender gave it no message id: our client would give it one."""
    put(host, [])
    published = {
        "properties": {"type": CHECK_TYPE, "delivery_mode": 2, **properties},
        "routing_key": topology.DEAD_LETTERS,
    }
    content = {"payload": body.decode(), "payload_encoding": "string"}
    sent = host.api.post(f"/exchanges/{host.name}/amq.default/publish", json={**published, **content})
    assert sent.raise_for_status().json()["routed"]


def put_many(host: VirtualHost, count: int) -> None:
    """Put so many letters among the dead, each with an id of its own."""

    async def publish(channel: AbstractChannel) -> None:
        for begin in range(0, count, 200):
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(letter(message_id=f"{number:06d}"), topology.DEAD_LETTERS)
                    for number in range(begin, min(count, begin + 200))
                )
            )

    _declare(host)
    _on_a_channel(host, publish)


def count(host: VirtualHost, queue: str = topology.DEAD_LETTERS) -> int:
    """Count the messages that are ready in a queue."""

    async def look(channel: AbstractChannel) -> int:
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0

    return _on_a_channel(host, look)


def take(host: VirtualHost, queue: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Take every message out of a queue."""

    async def empty(channel: AbstractChannel) -> list[aio_pika.abc.AbstractIncomingMessage]:
        taken, found = [], await channel.get_queue(queue, ensure=False)
        while (message := await found.get(no_ack=True, fail=False, timeout=60)) is not None:
            taken.append(message)
        return taken

    return _on_a_channel(host, empty)


def _declare(host: VirtualHost) -> None:
    async def run() -> None:
        async with await aio_pika.connect(host.amqp_url, timeout=60) as connection:
            await declare(Session(connection), topology.QUEUES)

    asyncio.run(run())


def _on_a_channel(
    host: VirtualHost,
    work: Callable[[AbstractChannel], Coroutine[Any, Any, Result]],
    *,
    publisher_confirms: bool = True,
) -> Result:
    async def run() -> Result:
        async with await aio_pika.connect(host.amqp_url, timeout=60) as connection:
            return await work(await connection.channel())

    return asyncio.run(run())
