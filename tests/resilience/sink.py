"""A telemetry backend that takes everything and keeps nothing, as a process: it must not cost what is measured beside it."""

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, EOFError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(ACCEPTED)
    writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever started it, however that ends.
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def running_sink() -> Iterator[str]:
    """Run one while the context lasts, and give its URL."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        process.kill()


if __name__ == "__main__":
    asyncio.run(_main())
