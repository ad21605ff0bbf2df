"""The proxy of the fault tests: each fault does what its name says, and the connection recovers where it should."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.tcp_proxy import TcpProxy

SOON = 5.0  # seconds: a deadline for what should happen
NOT_YET = 0.1  # seconds: long enough to see that something does not happen


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """A proxy in front of a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1024):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, TcpProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: TcpProxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, word: bytes, timeout: float = SOON) -> bytes:
        self.writer.write(word)
        return await self.answer(len(word), timeout)

    async def answer(self, size: int, timeout: float = SOON) -> bytes:
        async with asyncio.timeout(timeout):
            return await self.reader.readexactly(size)

    async def is_closed(self) -> bool:
        async with asyncio.timeout(SOON):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@pytest.fixture
async def client(proxy: TcpProxy) -> AsyncIterator[Client]:
    client = await Client.connect(proxy)
    yield client
    client.writer.transport.abort()


async def test_data_goes_through_in_both_directions(client: Client) -> None:
    assert await client.ask(b"ping") == b"ping"


async def test_the_end_of_the_data_goes_through(proxy: TcpProxy, client: Client) -> None:
    client.writer.write_eof()

    assert await client.is_closed()
    async with asyncio.timeout(SOON):
        while proxy.connections:
            await asyncio.sleep(0.01)


async def test_a_cut_closes_open_connections_and_lets_new_ones_in(proxy: TcpProxy, client: Client) -> None:
    assert await client.ask(b"ping") == b"ping"

    proxy.cut()

    assert await client.is_closed()
    again = await Client.connect(proxy)
    assert await again.ask(b"ping") == b"ping"
    again.writer.transport.abort()


async def test_a_stalled_connection_stays_open_and_resumes_with_nothing_lost(proxy: TcpProxy, client: Client) -> None:
    proxy.stall()

    with pytest.raises(TimeoutError):
        await client.ask(b"ping", timeout=NOT_YET)

    proxy.resume()
    assert await client.answer(4) == b"ping"


async def test_one_direction_can_stall_while_the_other_flows() -> None:
    heard: list[bytes] = []

    async def greet_and_listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        while chunk := await reader.read(1024):
            heard.append(chunk)
            writer.write(b"heard")
        writer.close()

    server = await asyncio.start_server(greet_and_listen, "127.0.0.1", 0)
    async with server, TcpProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        client = await Client.connect(proxy)
        assert await client.answer(5) == b"hello"

        proxy.stall(to_client=False)
        with pytest.raises(TimeoutError):
            await client.ask(b"held back", timeout=NOT_YET)
        nothing_heard = not heard
        proxy.resume()
        assert await client.answer(5) == b"heard"
        proxy.stall(to_target=False)
        client.writer.write(b"goes on")
        with pytest.raises(TimeoutError):
            await client.answer(5, timeout=NOT_YET)

        assert nothing_heard
        assert b"".join(heard) == b"held backgoes on"
        client.writer.transport.abort()


async def test_a_stalled_connection_can_be_cut(proxy: TcpProxy, client: Client) -> None:
    assert await client.ask(b"ping") == b"ping"
    proxy.stall()

    proxy.cut()

    assert await client.is_closed()


async def test_refused_connections_close_and_open_ones_stay(proxy: TcpProxy, client: Client) -> None:
    assert await client.ask(b"ping") == b"ping"
    proxy.refuse()

    refused = await Client.connect(proxy)

    assert await refused.is_closed()
    assert await client.ask(b"pong") == b"pong"
    proxy.accept()
    accepted = await Client.connect(proxy)
    assert await accepted.ask(b"ping") == b"ping"
    for other in (refused, accepted):
        other.writer.transport.abort()


async def test_a_slow_proxy_delays_each_direction(proxy: TcpProxy, client: Client) -> None:
    clock = asyncio.get_running_loop().time
    proxy.slow(0.1)
    began = clock()

    assert await client.ask(b"ping") == b"ping"

    assert clock() - began >= 0.2
    proxy.slow(0)
    assert await client.ask(b"pong", timeout=SOON) == b"pong"


async def test_a_target_that_is_away_looks_like_a_closed_connection() -> None:
    nobody = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = nobody.sockets[0].getsockname()[1]
    nobody.close()
    await nobody.wait_closed()

    async with TcpProxy("127.0.0.1", port) as proxy:
        client = await Client.connect(proxy)

        assert await client.is_closed()
        client.writer.transport.abort()
