"""A small HTTP/1.1 client over kept connections: cheap enough to send hundreds of orders a second beside what it measures."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Reply(NamedTuple):
    """An answer: its body, out of JSON, and its headers as they stand in it."""

    code: int
    body: Any
    headers: Sequence[str]

    def header(self, name: str) -> str | None:
        """Give the value of a header, by its name in lower case."""
        start = f"{name}: "
        return next((line[len(start) :] for line in self.headers if line.lower().startswith(start)), None)


class HttpClient:
    """Sends JSON to one service; as many connections as requests are open at a time, at most `connections`."""

    def __init__(self, url: str, connections: int = 2000) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._free = asyncio.Semaphore(connections)
        self._idle: list[Stream] = []

    async def request(self, method: str, path: str, body: Any = None, timeout: float = 60.0) -> Reply:
        """Give an answer; raises OSError, EOFError or TimeoutError where none comes."""
        async with self._free, asyncio.timeout(timeout):
            while True:
                kept = self._idle.pop() if self._idle else None
                stream = kept or await asyncio.open_connection(*self._address)
                try:
                    answer = await self._exchange(stream, method, path, body)
                except (OSError, EOFError):
                    stream[1].close()
                    # A kept connection may have been closed while it was idle. That is no answer to this request.
                    if kept is None:
                        raise
                except BaseException:
                    stream[1].close()
                    raise
                else:
                    self._idle.append(stream)
                    return answer

    async def close(self) -> None:
        """Close the kept connections."""
        for _, writer in self._idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._idle), return_exceptions=True)
        self._idle.clear()

    async def _exchange(self, stream: Stream, method: str, path: str, body: Any) -> Reply:
        reader, writer = stream
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + content)
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        length = next(int(line[15:]) for line in lines if line[:15].lower() == "content-length:")
        answered = await reader.readexactly(length)
        return Reply(int(status_line.split()[1]), json.loads(answered) if answered else None, lines)
