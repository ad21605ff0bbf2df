"""Runs the receiver: `python -m shared.tools.receiver --user ... --password ...`."""

import gc
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from shared.tools.order_client import ApiError, key_headers
from shared.tools.receiver.asgi import create_app
from shared.tools.receiver.live import LiveStreams
from shared.tools.receiver.receiver_settings import ReceiverSettings

_log = logging.getLogger(__name__)


def run(
    user: Annotated[str, typer.Option(envvar="OPENOBSERVE_USER", help="User that writers and readers log in with.")],
    password: Annotated[str, typer.Option(envvar="OPENOBSERVE_PASSWORD", help="Their password.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    port_file: Annotated[Path | None, typer.Option(help="File to write the port to once it is open.")] = None,
    order_api_url: Annotated[
        str | None, typer.Option(envvar="ORDER_API_URL", help="Order API that the page's form places orders with.")
    ] = None,
    order_api_key: Annotated[
        str | None,
        typer.Option(envvar="ORDER_API_KEY", help="Its key; whoever opens the page can then place orders."),
    ] = None,
    amqp_url: Annotated[
        str | None, typer.Option(envvar="AMQP_URL", help="Broker whose dead letters are shown, replayed and dropped.")
    ] = None,
) -> None:
    """Receive traces, logs and metrics over OTLP/HTTP, keep the newest in memory, and show them."""
    try:
        key_headers(order_api_key)
    except ApiError as error:
        raise typer.BadParameter(str(error), param_hint="--order-api-key") from None
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    # What is stored lives long and holds no cycles: collecting often would only walk it again and again.
    gc.set_threshold(50_000, 50, 100)

    app = create_app(
        ReceiverSettings(
            user,
            password,
            host=host,
            order_api_url=order_api_url or None,
            order_api_key=order_api_key or None,
            amqp_url=amqp_url or None,
        )
    )
    with _listen(host, port) as listener:
        open_port = listener.getsockname()[1]
        if port_file is not None:
            _write(port_file, str(open_port))
        _log.info("traces at http://%s:%d/", host, open_port)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3)
        _Server(config, app.state.streams).run([listener])


class _Server(uvicorn.Server):
    """Ends the event streams before it waits for open responses: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, streams: LiveStreams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shuts down in order."""
        self._streams.close()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the port is known and open before anybody is told of it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=512)


def _write(path: Path, text: str) -> None:
    """Writes the file whole: a reader sees nothing or everything."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _exit(*_: object) -> None:
    """Uvicorn shuts down on a signal, then raises it again: asked to end, the process ends well."""
    sys.exit(0)


def main() -> None:
    """The command line."""
    typer.run(run)


if __name__ == "__main__":
    main()
