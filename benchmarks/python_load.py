"""A load generator for where `wrk` is not installed: keep-alive connections, each with one order under way at a time."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

from benchmarks.load_result import Result


@dataclass
class _Found:
    """What a run of load found; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    sent: int = 0


class _Connection(asyncio.Protocol):
    """One connection: sends an order as soon as the one before it is answered."""

    def __init__(self, host: str, prefix: str, found: _Found, until: float, pause: float, done: asyncio.Future[None]):
        self._head = f"POST /orders/create?order_id={prefix}".encode()
        self._tail = f" HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n".encode()
        self._found, self._until, self._pause, self._done = found, until, pause, done
        self._count = 0
        self._sent_at = 0.0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._count += 1
        self._found.sent += 1
        self._sent_at = time.perf_counter()
        self._transport.write(b"%b-%d%b" % (self._head, self._count, self._tail))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        start = lowered.index(b"content-length:") + 15
        length = int(lowered[start : lowered.find(b"\r\n", start) if b"\r\n" in lowered[start:] else None])
        if len(body) < length:
            return
        self._buffer = b""
        now = time.perf_counter()
        if head.startswith(b"HTTP/1.1 200 "):
            self._found.latencies.append(now - self._sent_at)
        if self._pause:
            wait = max(0.0, self._sent_at + self._pause - now)
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def run(urls: Sequence[str], connections: int, seconds: float, rate: float | None) -> Result:
    """Load `urls` in turn for some seconds over some connections, at most at `rate` orders a second over all of them."""
    return uvloop.run(_run(urls, connections, seconds, rate))


async def _run(urls: Sequence[str], connections: int, seconds: float, rate: float | None) -> Result:
    loop = asyncio.get_running_loop()
    found = _Found()
    started = time.perf_counter()
    pause = connections / rate if rate else 0.0
    finished = []
    for number in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        parts = urlsplit(urls[number % len(urls)])
        prefix = f"B{uuid.uuid4().hex[:12]}-{number}"
        await loop.create_connection(
            lambda host=parts.netloc, prefix=prefix, done=done: _Connection(  # type: ignore[misc]
                host, prefix, found, started + seconds, pause, done
            ),
            parts.hostname or "127.0.0.1",
            parts.port or 80,
        )
        finished.append(done)
    await asyncio.wait_for(asyncio.gather(*finished), seconds + 60)
    ordered = sorted(found.latencies)
    return Result(
        sent=found.sent,
        answered=len(ordered),
        seconds=time.perf_counter() - started,
        p50=_percentile(ordered, 0.50),
        p99=_percentile(ordered, 0.99),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else float("nan")
