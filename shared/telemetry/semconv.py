"""Every attribute, span and link name this system writes, once.

Messaging names follow the OpenTelemetry messaging conventions v1.44. Our own live under `order.`, `inventory.` and `delivery.`,
never under a namespace of the conventions, and never fold (dots to underscores) onto a column of OpenObserve.
"""

from enum import StrEnum

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE = "messaging.destination.template"
MESSAGING_DESTINATION_TEMPORARY = "messaging.destination.temporary"
MESSAGING_ROUTING_KEY = "messaging.rabbitmq.destination.routing_key"
MESSAGING_DELIVERY_TAG = "messaging.rabbitmq.message.delivery_tag"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_CONVERSATION_ID = "messaging.message.conversation_id"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

ORDER_ID = "order.id"
ORDER_STATUS = "order.status"
ORDER_REASON = "order.reason"

INVENTORY_IN_STOCK = "inventory.in_stock"

DELIVERY_QUEUE_WAIT_MS = "delivery.queue_wait_ms"
"""Milliseconds from publish to delivery, by the clocks of the two hosts; never below 0."""
DELIVERY_ATTEMPT = "delivery.attempt"
"""1 for the first delivery of a message, counting redeliveries and retries."""
DELIVERY_REDELIVERED = "delivery.redelivered"
DELIVERY_OUTCOME = "delivery.outcome"

DELIVERY_REPLY = "delivery.reply"

ASK_DEFERRED = "ask deferred"
"""The event on a request's span when the question could not be published and is left to the relay."""

BATCH_SIZE = "db.operation.batch.size"

LINK_REASON = "link.reason"


class LinkReason(StrEnum):
    """Why a span links to another: the value of `link.reason`."""

    CREATION_CONTEXT = "creation_context"
    REPLY = "reply"
    PREVIOUS_ATTEMPT = "previous_attempt"
    DUPLICATE_OF = "duplicate_of"
    BATCH_MEMBER = "batch_member"
    REPLAY_OF = "replay_of"
    LATE_REPLY_TO = "late_reply_to"


class DeliveryOutcome(StrEnum):
    """How a delivery was settled: the value of `delivery.outcome`."""

    ACK = "ack"
    RETRY = "retry"
    DEAD_LETTER = "dead_letter"


class ReplyKind(StrEnum):
    """What a reply is to the orders here: the value of `delivery.reply`."""

    MATCHED = "matched"
    LATE = "late"
    """Nobody waits any more: the request timed out, or the relay asked."""
    DUPLICATE = "duplicate"
    """The order has its outcome already."""
    FOREIGN = "foreign"
    """No such order."""
    MALFORMED = "malformed"
