"""Everything that can go wrong here, as one tree.

TracedOrdersError
├── Unavailable              a resource is away: trying again later can help
│   ├── HeldTooLong          it was away for as long as a delivery may be held
│   ├── BrokerUnavailable    not connected
│   │   └── Unconfirmed      sent, but not confirmed: it may or may not have arrived
│   └── StoreUnavailable     the database is locked, gone, or too slow: nothing was written
│       ├── Overloaded       too many writes wait for it, or this one has waited too long
│       └── CommitUnknown    the connection was lost during a commit: the write may have been made
├── Fatal                    this process cannot go on, and ends
│   └── NewerSchema          a newer version of this service has migrated the database
├── WrongSetting             a setting says what cannot be: there is no start
├── WriteFailed              the database is there, but this very write fails
├── TooManyAttempts          a message that has been tried too often already
├── Unroutable               the broker is there, but no queue takes the message
├── Refused                  the broker is there, but the queue is full or has no leader
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


class HeldTooLong(Unavailable):
    """The resource that a delivery waits for has been away for as long as a delivery may be held."""

    code = "held_too_long"


class BrokerUnavailable(Unavailable):
    """Not connected, or blocked: nothing was sent over a connection that was there."""

    code = "broker_unavailable"


class Unconfirmed(BrokerUnavailable):
    """The broker did not confirm in time: the message may or may not have arrived."""


class StoreUnavailable(Unavailable):
    """The database is locked, gone, or did not answer in time."""

    code = "store_unavailable"


class Overloaded(StoreUnavailable):
    """More is to be written than the database takes in time; this write was withdrawn, and certainly not made."""

    code = "overloaded"


class CommitUnknown(StoreUnavailable):
    """The database did not say how a commit went: the write may or may not have been made."""

    code = "commit_unknown"


class Fatal(TracedOrdersError):
    """This process cannot go on: it ends with exit code 1, so that whoever runs it can start it again."""

    code = "fatal"


class NewerSchema(Fatal):
    """The database has a schema that this version of the service does not know."""

    code = "newer_schema"


class WrongSetting(TracedOrdersError):
    """A setting is well formed and cannot be used here; the message is a sentence that names it."""

    code = "wrong_setting"


class WriteFailed(TracedOrdersError):
    """The database is there and refuses this very write, while it takes others."""

    code = "write_failed"


class TooManyAttempts(TracedOrdersError):
    """The message has been delivered too often, perhaps because it kills whoever handles it."""

    code = "too_many_attempts"


class Unroutable(TracedOrdersError):
    """The broker returned the message: no queue is bound where it was sent."""

    code = "unroutable"


class Refused(TracedOrdersError):
    """The broker would not take the message: its queue is full, or cannot take any for now."""

    code = "refused"


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
