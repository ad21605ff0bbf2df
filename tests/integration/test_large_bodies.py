"""A body of megabytes, sent by ordinary clients over real sockets: each can read the answer, none is cut off first.

A server that closes a connection with unread bytes makes the kernel reset it, and the client, still sending, finds the reset
before it finds the answer. 8 MB are more than the sockets of both ends hold, so that the client is still sending.
"""

import http.client
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from shared.service.body_limit import READ_ON_SECONDS
from tests.system import Api

SIZE = 8 * 1024 * 1024
PIECE = b" " * 65536
JSON = {"content-type": "application/json"}


def _pieces() -> Iterator[bytes]:
    return (PIECE for _ in range(SIZE // len(PIECE)))


def _httpx(url: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, str]:
    answer = httpx.post(url, content=body, headers=JSON | headers, timeout=60, trust_env=False)
    return answer.status_code, answer.text


def _requests(url: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, str]:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(url, data=body, headers=JSON | headers, timeout=60)
        return answer.status_code, answer.text


def _http_client(url: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", urlsplit(url).path, body, JSON | headers, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _urllib(url: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, str]:
    """It sends `Connection: close`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request(url, body, JSON | headers), timeout=60)  # noqa: S310
    with refused.value as answer:
        return answer.code, answer.read().decode()


CLIENTS = [_httpx, _requests, _http_client, _urllib]


@pytest.mark.parametrize("headers", [{}, {"connection": "close"}, {"expect": "100-continue"}], ids=str)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("send", CLIENTS, ids=lambda client: client.__name__.strip("_"))
def test_a_client_that_sends_8_mb_reads_its_413(
    api: Api, send: Callable[..., tuple[int, str]], is_chunked: bool, headers: dict[str, str]
) -> None:
    status, body = send(
        f"{api.service.url}/orders", _pieces() if is_chunked else PIECE * (SIZE // len(PIECE)), **headers
    )

    assert status == 413
    assert '"status":413' in body


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("options", [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"], ["-0"]], ids=str)
def test_curl_that_sends_8_mb_reads_its_413(api: Api, tmp_path: Path, options: list[str]) -> None:
    """With `Expect: 100-continue`, which curl sends by itself, without it, in chunks, and as HTTP/1.0."""
    large = tmp_path / "large"
    large.write_bytes(PIECE * (SIZE // len(PIECE)))

    usual = ["-sS", "--noproxy", "*", "--max-time", "60", "-H", "content-type: application/json"]

    done = subprocess.run(
        ["curl", *usual, "--data-binary", f"@{large}", *options, f"{api.service.url}/orders"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert '"status":413' in done.stdout


def test_what_is_not_there_can_be_told_to_a_client_that_sends_8_mb(api: Api) -> None:
    """Nobody reads the body of a request that has no route."""
    status, body = _urllib(f"{api.service.url}/nowhere", _pieces())

    assert status == 404
    assert '"status":404' in body


def test_a_client_that_waits_for_100_continue_gets_413_at_once(api: Api) -> None:
    """It has sent the head only, and sends the body only when it is told to."""
    with _connected(api) as connection:
        connection.sendall(_head(f"Content-Length: {SIZE}\r\nExpect: 100-continue"))

        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_stops_in_the_middle_of_its_body_does_not_hold_the_connection(api: Api) -> None:
    """It reads its 413 at once, and is left after five seconds; the service answers others all the time."""
    with _connected(api) as connection:
        connection.sendall(_head(f"Content-Length: {SIZE}") + PIECE)
        began = time.monotonic()

        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        assert api.http.get("/health").status_code == 200
        while connection.recv(65536):
            pass  # the rest of the answer, until the service hangs up
        assert READ_ON_SECONDS - 1 < time.monotonic() - began < READ_ON_SECONDS + 30


def test_a_body_without_an_end_is_cut_off(api: Api) -> None:
    """In chunks, for as long as it is let: 16 MiB and what the sockets hold."""
    chunk = b"%x\r\n" % len(PIECE) + PIECE + b"\r\n"
    sent = 0
    with _connected(api) as connection, suppress(ConnectionError):
        connection.sendall(_head("Transfer-Encoding: chunked"))
        while sent < 64 * 1024 * 1024:
            connection.sendall(chunk)
            sent += len(PIECE)

    assert 16 * 1024 * 1024 < sent < 64 * 1024 * 1024


def _connected(api: Api) -> socket.socket:
    address = urlsplit(api.service.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)


def _head(headers: str) -> bytes:
    return f"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n\r\n".encode()
