"""The attribute and link names that any service over a queue writes, once.

Messaging names follow the OpenTelemetry messaging conventions: those of v1.44, which backends read, and those of v1.45 where
`OTEL_SEMCONV_STABILITY_OPT_IN` asks for them. Names that are not theirs live under `delivery.` and `link.`, never under a
namespace of the conventions, and never fold (dots to underscores) onto a column of OpenObserve; all of them are in the
registry in `telemetry-schema/`.
"""

from dataclasses import dataclass
from enum import StrEnum

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE = "messaging.destination.template"
MESSAGING_DESTINATION_TEMPORARY = "messaging.destination.temporary"
MESSAGING_DESTINATION_ANONYMOUS = "messaging.destination.anonymous"
MESSAGING_ROUTING_KEY = "messaging.rabbitmq.destination.routing_key"
MESSAGING_DELIVERY_TAG = "messaging.rabbitmq.message.delivery_tag"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_CONVERSATION_ID = "messaging.message.conversation_id"
PEER_SERVICE = "peer.service"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

DELIVERY_QUEUE_WAIT_MS = "delivery.queue_wait_ms"
"""Milliseconds from publish to delivery, by the clocks of the two hosts; never below 0."""
DELIVERY_ATTEMPT = "delivery.attempt"
"""1 for the first delivery of a message, counting redeliveries and retries."""
DELIVERY_REDELIVERED = "delivery.redelivered"
DELIVERY_OUTCOME = "delivery.outcome"
"""How a delivery was settled: `ack`, `reject`, `requeue`, `auto_ack`, `unsettled`, or what the application says of it."""

DELIVERY_REPLY = "delivery.reply"

DB_SYSTEM_NAME = "db.system.name"
DB_NAMESPACE = "db.namespace"
DB_OPERATION_NAME = "db.operation.name"
DB_QUERY_SUMMARY = "db.query.summary"
DB_QUERY_TEXT = "db.query.text"
BATCH_SIZE = "db.operation.batch.size"

LINK_REASON = "link.reason"
LINKS_LEFT_OUT = "link.left_out"
"""How many links a span does not have, since there is a limit to them."""


class LinkReason(StrEnum):
    """Why a span links to another: the value of `link.reason`."""

    CREATION_CONTEXT = "creation_context"
    REPLY = "reply"
    PREVIOUS_ATTEMPT = "previous_attempt"
    DUPLICATE_OF = "duplicate_of"
    BATCH_MEMBER = "batch_member"
    REPLAY_OF = "replay_of"
    LATE_REPLY_TO = "late_reply_to"


@dataclass(frozen=True, slots=True)
class MessagingNames:
    """The names that v1.45 of the conventions changed: each attribute is written under all that are listed."""

    system: tuple[str, ...] = (MESSAGING_SYSTEM,)
    routing_key: tuple[str, ...] = (MESSAGING_ROUTING_KEY,)
    delivery_tag: tuple[str, ...] = (MESSAGING_DELIVERY_TAG,)
    schema_url: str = SCHEMA_URL


_BEFORE = MessagingNames()
_TODAY = MessagingNames(
    ("messaging.system.name",),
    ("rabbitmq.destination.routing_key",),
    ("rabbitmq.message.delivery_tag",),
    "https://opentelemetry.io/schemas/1.45.0",
)
_BOTH = MessagingNames(
    _BEFORE.system + _TODAY.system,
    _BEFORE.routing_key + _TODAY.routing_key,
    _BEFORE.delivery_tag + _TODAY.delivery_tag,
    _TODAY.schema_url,
)


def messaging_names(opt_in: str | None) -> MessagingNames:
    """Choose by the value of `OTEL_SEMCONV_STABILITY_OPT_IN`, a comma-separated list.

    `messaging/dup` writes both names, `messaging` those of v1.45 only, anything else those of v1.44.
    """
    asked = {each.strip() for each in (opt_in or "").lower().split(",")}
    if "messaging/dup" in asked:
        return _BOTH
    return _TODAY if "messaging" in asked else _BEFORE
