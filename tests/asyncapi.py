"""Writes docs/asyncapi.yaml and docs/schemas/ from the messages, their envelope and the topology: `make docs`."""

import json
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from shared import __version__
from shared.contract import envelope, topology
from shared.contract.messages import CheckDelayed, CheckInventory, InventoryDecision

DOCS = Path(__file__).parents[1] / "docs"
MESSAGES: dict[str, type[CheckInventory] | type[InventoryDecision] | type[CheckDelayed]] = {
    "check": CheckInventory,
    "decision": InventoryDecision,
    "delay": CheckDelayed,
}

_MICROSECONDS = {"type": "integer", "description": "microseconds since the epoch"}
_TEXT = {"type": "string"}
_HEADERS: dict[str, Any] = {
    "traceparent": {"type": "string", "description": "W3C trace context: the creation context of the message"},
    envelope.PUBLISHED_AT_HEADER: _MICROSECONDS,
}
_ON_REPLIES = {envelope.ASKED_AT_HEADER: {**_MICROSECONDS, "description": "when the check was published"}}
_ON_RETRIES = {envelope.FAILURES_HEADER: {"type": "integer", "minimum": 1, "description": "failed attempts so far"}}
_ON_DEAD_LETTERS = {
    envelope.DEATH_REASON_HEADER: {**_TEXT, "description": "a code"},
    envelope.DEATH_DETAIL_HEADER: _TEXT,
    envelope.DEATH_ORIGIN_HEADER: {**_TEXT, "description": "the queue in which it died"},
    envelope.DEATH_ATTEMPTS_HEADER: {"type": "integer", "minimum": 1},
}


def generated() -> dict[str, str]:
    """Give the text of every generated file by its path below docs/."""
    schemas = {f"schemas/{name}.json": _json(model.model_json_schema()) for name, model in MESSAGES.items()}
    document = yaml.safe_dump(_document(), sort_keys=False, width=120, allow_unicode=True)
    return {**schemas, "asyncapi.yaml": f"# Generated: make docs\n{document}"}


def _json(schema: dict[str, Any]) -> str:
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def _document() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Traced Orders: the inventory worker over RabbitMQ",
            "version": __version__,
            "license": {"name": "Apache-2.0"},
            "description": (
                "AMQP properties of every message: `type` (below, the name), `message_id`, `correlation_id` (the order id), "
                "`timestamp`, `content_type`, `delivery_mode` 2; on a check also `reply_to`. Unknown fields are ignored; "
                "a type that is not spoken is a dead letter."
            ),
        },
        "defaultContentType": envelope.CONTENT_TYPE,
        "channels": {
            "checks": _channel(topology.INVENTORY_CHECK, ["check"], topology.ORDERS_EXCHANGE),
            "retries": {
                **_channel("inventory.check.retry.{delay}ms", ["retried"]),
                "parameters": {"delay": {"description": "milliseconds that a check waits here"}},
            },
            "replies": {
                **_channel(topology.REPLY_QUEUE_TEMPLATE, ["decision", "delay"]),
                "parameters": {"instance": {"description": "the instance of the order API, and its connection"}},
            },
            "sharedReplies": _channel(topology.SHARED_REPLIES, ["decision", "delay"]),
            "deadLetters": _channel(topology.DEAD_LETTERS, ["dead"]),
        },
        "operations": {
            "reserve": {
                **_operation(
                    "receive", "checks", ["check"], "Reserve stock for an order, and reply with the decision."
                ),
                "reply": {
                    "address": {"location": "$message.header#/reply_to", "description": "the AMQP property reply_to"},
                    "channel": {"$ref": "#/channels/replies"},
                    "messages": [{"$ref": f"#/channels/replies/messages/{name}"} for name in ("decision", "delay")],
                },
            },
            "replyToAll": _operation(
                "send", "sharedReplies", ["decision", "delay"], "Reply where the queue of the asker is gone."
            ),
            "retry": _operation("send", "retries", ["retried"], "Try a check again later, after its handling failed."),
            "bury": _operation("send", "deadLetters", ["dead"], "Leave a check to a person."),
        },
        "components": {
            "messages": {
                "check": _message("check", {}),
                "retried": _message("check", _ON_RETRIES),
                "dead": _message("check", _ON_DEAD_LETTERS),
                "decision": _message("decision", _ON_REPLIES),
                "delay": _message("delay", _ON_REPLIES),
            }
        },
    }


def _channel(queue: str, messages: list[str], exchange: str = "") -> dict[str, Any]:
    """Describe a queue; it is published to through `exchange`, or where that is empty through the default one."""
    binding = {"name": exchange, "type": "topic" if exchange else "direct", "durable": True, "vhost": "/"}
    return {
        "address": queue,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"amqp": {"is": "routingKey", "exchange": binding, "bindingVersion": "0.3.0"}},
    }


def _operation(action: str, channel: str, messages: list[str], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _message(name: str, headers: dict[str, Any]) -> dict[str, Any]:
    model = MESSAGES[name]
    return {
        "name": model.TYPE,
        "summary": model.__doc__,
        "contentType": envelope.CONTENT_TYPE,
        "correlationId": {"location": "$message.payload#/order_id", "description": "the AMQP property correlation_id"},
        "headers": {"type": "object", "properties": {**_HEADERS, **headers}},
        "payload": {"$ref": f"./schemas/{name}.json"},
        "bindings": {"amqp": {"messageType": model.TYPE, "bindingVersion": "0.3.0"}},
    }


def main() -> None:
    """Write the files."""
    for path, text in generated().items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text)


if __name__ == "__main__":
    main()
