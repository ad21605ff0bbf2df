"""A TCP proxy that can break the connection between a client and a server in the ways that networks do."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards every connection on `port` to a target; its faults hold for old and new connections alike."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._to_target = asyncio.Event()
        self._to_client = asyncio.Event()
        self.resume()
        self._refusing = False
        self._delay = 0.0

    @property
    def port(self) -> int:
        """Where to connect to, on 127.0.0.1."""
        assert self._server, "the proxy is not entered"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many connections are open through the proxy."""
        return len(self._connections)

    def cut(self) -> None:
        """Close every connection at once, on both sides, and drop what was under way."""
        for task, writers in self._connections.items():
            for writer in writers:
                writer.transport.abort()
            task.cancel()

    def stall(self, *, to_target: bool = True, to_client: bool = True) -> None:
        """Forward nothing, not even that a side has closed, and keep the sockets open: a half-open connection.

        With one direction only, what goes the other way still arrives.
        """
        if to_target:
            self._to_target.clear()
        if to_client:
            self._to_client.clear()

    def resume(self) -> None:
        """End a stall; what was sent meanwhile arrives, in order."""
        self._to_target.set()
        self._to_client.set()

    def refuse(self) -> None:
        """Close new connections as soon as they are made."""
        self._refusing = True

    def accept(self) -> None:
        """Forward new connections again."""
        self._refusing = False

    def slow(self, seconds: float) -> None:
        """Hold each chunk of data back for so long, in both directions; 0 for no delay."""
        self._delay = seconds

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        tasks = list(self._connections)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task
        writers = self._connections[task] = [writer]
        try:
            # A target that is away looks like a cut.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._to_target.wait()
                target_reader, target_writer = await asyncio.open_connection(*self._target)
                writers.append(target_writer)
                await asyncio.gather(
                    self._pump(reader, target_writer, self._to_target),
                    self._pump(target_reader, writer, self._to_client),
                )
        finally:
            for side in writers:
                side.transport.abort()
            del self._connections[task]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):  # a reset is the end of the data, and goes on as such
            while chunk := await reader.read(65536):
                await asyncio.sleep(self._delay)
                await flowing.wait()
                writer.write(chunk)
                await writer.drain()
        await flowing.wait()
        writer.write_eof()
