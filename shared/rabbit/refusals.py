"""Why there is no connection to a broker, in a clause for the log and `/ready`: it is away, or it refuses something."""

import asyncio
import socket
import ssl

from aio_pika.exceptions import AuthenticationError, ProbableAuthenticationError
from aiormq.exceptions import (
    AMQPConnectionError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    InvalidFrameError,
)
from yarl import URL

from shared.contract.errors import BrokerUnavailable, first_line

_LARGEST_FRAME = 131_072
"""As RabbitMQ has it by default; what greets with more is read as a frame and is none."""


def address(url: URL) -> str:
    """Say where a broker is, without the login."""
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"


def why_not(error: BrokerUnavailable, url: URL) -> str:
    """Say why there is no connection to the broker at `url`, from what the client raised."""
    cause, user = error.__cause__, url.user or "guest"
    while cause is not None and isinstance(cause.__cause__, OSError):
        cause = cause.__cause__  # the client's own errors say less than the system's
    match cause:
        case AuthenticationError() | ProbableAuthenticationError():
            return f"it refuses the user {user!r} or the password"
        case InvalidFrameError() | ConnectionNotAllowed():
            # The client does not read what the broker says when it refuses what is asked for last: the virtual host.
            name = url.path.removeprefix("/") or "/"
            return f"it refuses the virtual host {name!r} to {user!r}: there is none, or not for this user"
        case ChannelAccessRefused():
            return f"the user {user!r} may not do what is needed: {first_line(cause)}"
        case ChannelPreconditionFailed():
            return f"what it has under our names is not what is needed: {first_line(cause)}"
        case socket.gaierror():
            return f"its name is not known ({cause.strerror})"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({cause.verify_message})"
        case ssl.SSLError():
            return f"it speaks no TLS that we do ({cause.reason})"
        case ConnectionRefusedError():
            return "nobody listens there"
        case AMQPConnectionError(__cause__=asyncio.IncompleteReadError(expected=int(size))):
            return "it speaks no AMQP" if size > _LARGEST_FRAME else "it has closed the connection"
        case TimeoutError():
            return "it did not answer in time"
    return str(error)
