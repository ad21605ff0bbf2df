"""What PgBouncer does with `pool_mode = transaction`, at its worst: each transaction goes to another connection than the last."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_SSL_REQUEST = 80877103
_TOLD = {
    "server_version": "15.0",
    "client_encoding": "UTF8",
    "server_encoding": "UTF8",
    "standard_conforming_strings": "on",
}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TransactionPooler:
    """Hands each transaction of a client to the next of its connections, and tells clients a process id of its own."""

    def __init__(self, port: int, user: str, database: str, size: int) -> None:
        self._port, self._user, self._database, self._size = port, user, database, size
        self._idle: asyncio.Queue[Streams] = asyncio.Queue()
        self._ids = itertools.count(900_001)
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TransactionPooler"]:
        """Serve while the context lasts."""
        for _ in range(self._size):
            self._idle.put_nowait(await self._log_in())
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def _log_in(self) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        words = f"user\0{self._user}\0database\0{self._database}\0\0".encode()
        writer.write((len(words) + 8).to_bytes(4, "big") + (196608).to_bytes(4, "big") + words)
        while (await _message(reader))[:1] != b"Z":
            pass
        return reader, writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            await self._greet(reader, writer)
            message = await _message(reader)
            while message[:1] != b"X":
                message = await self._transact(message, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length = int.from_bytes(await reader.readexactly(4), "big")
            start = await reader.readexactly(length - 4)
            if int.from_bytes(start[:4], "big") != _SSL_REQUEST:
                break
            writer.write(b"N")
        writer.write(_framed(b"R", bytes(4)))
        for name, value in _TOLD.items():
            writer.write(_framed(b"S", f"{name}\0{value}\0".encode()))
        writer.write(_framed(b"K", next(self._ids).to_bytes(4, "big") + bytes(4)) + _framed(b"Z", b"I"))

    async def _transact(self, message: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Hand on what comes until the server says that it is in no transaction any more; gives the message after that."""
        backend = server, to_server = await self._idle.get()
        answering = asyncio.create_task(_answer(server, writer))
        try:
            while True:
                to_server.write(message)
                reading = asyncio.create_task(_message(reader))
                await asyncio.wait({reading, answering}, return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    self._idle.put_nowait(backend)
                    return await reading
                message = await reading
        finally:
            answering.cancel()


async def _answer(server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        told = await _message(server)
        writer.write(told)
        if told[:1] == b"Z" and told[5:] == b"I":
            return


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def _framed(kind: bytes, content: bytes) -> bytes:
    return kind + (len(content) + 4).to_bytes(4, "big") + content
