"""What the AMQP client raises when it has lost something: one table, and the one place where it becomes an error of ours."""

import asyncio
import contextlib
from collections.abc import Iterator

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError, PublishError, QueueEmpty

from shared.contract.errors import Refused, Unconfirmed, Unroutable, first_line

LOST = (
    AMQPError,  # closed by the broker, or refused at the handshake
    ChannelInvalidStateError,  # used after its end
    OSError,  # the socket; a connection that is refused
    TimeoutError,  # no confirm, or no answer, within the deadline
    StopAsyncIteration,  # a reader that has ended under a call that was waiting for it
)


@contextlib.contextmanager
def losses_as_errors() -> Iterator[None]:
    """Raise what the client raises inside as an error of ours; put it around calls of the client and nothing else.

    A returned message is Unroutable, one that a queue would not take is Refused, all else that is lost is Unconfirmed.
    """
    try:
        yield
    except QueueEmpty:
        raise
    except PublishError as error:
        raise Unroutable("no queue takes it") from error
    except DeliveryError as error:
        raise Refused("the broker refuses it") from error
    except LOST as error:
        raise Unconfirmed(first_line(error)) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this task: the client cancels what waits on a connection that has gone silent.
        raise Unconfirmed("the connection has gone silent") from error
    except Exception as error:
        # The client ends its waiters with a bare `Exception` where a connection went without a reason.
        if type(error) is not Exception:
            raise
        raise Unconfirmed("the connection has gone") from error
