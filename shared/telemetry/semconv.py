"""The attribute and link names that any service over a queue writes, once.

Messaging names follow the OpenTelemetry messaging conventions v1.44. Those that are not theirs live under `delivery.` and
`link.`, never under a namespace of the conventions, and never fold (dots to underscores) onto a column of OpenObserve.
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

DELIVERY_QUEUE_WAIT_MS = "delivery.queue_wait_ms"
"""Milliseconds from publish to delivery, by the clocks of the two hosts; never below 0."""
DELIVERY_ATTEMPT = "delivery.attempt"
"""1 for the first delivery of a message, counting redeliveries and retries."""
DELIVERY_REDELIVERED = "delivery.redelivered"
DELIVERY_OUTCOME = "delivery.outcome"

DELIVERY_REPLY = "delivery.reply"

DB_SYSTEM_NAME = "db.system.name"
DB_NAMESPACE = "db.namespace"
DB_OPERATION_NAME = "db.operation.name"
DB_QUERY_SUMMARY = "db.query.summary"
DB_QUERY_TEXT = "db.query.text"
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
