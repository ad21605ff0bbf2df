"""Everything that can go wrong here, as one tree.

TracedOrdersError
├── Unavailable              a resource is away: trying again later can help
│   ├── BrokerUnavailable    not connected, or the publish was not confirmed in time
│   └── StoreUnavailable     the database is locked, gone, or too slow
├── TooManyAttempts          a message that has been tried too often already
├── Unroutable               the broker is there, but no queue takes the message
└── MalformedMessage         no retry can make it readable: poison
    └── UnknownVersion       well formed, but of a type that is not spoken here
"""


class TracedOrdersError(Exception):
    """The root: a failure that this system expects and handles."""

    code = "internal"
    """The failure in one low-cardinality word: in replies, dead letters, metrics and `error.type`."""


class Unavailable(TracedOrdersError):
    """A resource is away; the same call may succeed later."""

    code = "unavailable"


class BrokerUnavailable(Unavailable):
    """Not connected, or the broker did not confirm in time: the message may or may not have arrived."""

    code = "broker_unavailable"


class StoreUnavailable(Unavailable):
    """The database is locked, gone, or did not answer in time."""

    code = "store_unavailable"


class TooManyAttempts(TracedOrdersError):
    """The message has been delivered too often, perhaps because it kills whoever handles it."""

    code = "too_many_attempts"


class Unroutable(TracedOrdersError):
    """The broker returned the message: no queue is bound where it was sent."""

    code = "unroutable"


class MalformedMessage(TracedOrdersError):
    """The message cannot be understood, now or later."""

    code = "malformed"


class UnknownVersion(MalformedMessage):
    """The message has a type or version that is not spoken here."""

    code = "unknown_version"


def first_line(error: BaseException) -> str:
    """Say what happened in one short line: for logs and for the messages of errors raised from this one."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def code_of(error: BaseException) -> str:
    """Give the code of a failure, or for a bug the name of its type."""
    return error.code if isinstance(error, TracedOrdersError) else type(error).__qualname__
