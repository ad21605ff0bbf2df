"""The series that are known before anything happens: they start at 0, so that the first event shows.

A rate is the last sample less the first. A series that began with its first order, retry or dead letter would show none of
them: the only one of the day would be on no panel.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from urllib.parse import urlsplit

from shared.contract import errors, topology
from shared.contract.messages import OrderStatus
from shared.telemetry import begin, semconv
from shared.tracing import instruments

_DECIDED = (
    (OrderStatus.SUCCESS, "none"),
    (OrderStatus.OUT_OF_STOCK, "insufficient_stock"),
    (OrderStatus.ERROR, "unknown_sku"),
    (OrderStatus.ERROR, "dead_letter"),
)
_POISON = (errors.MalformedMessage, errors.UnknownVersion, errors.TooManyAttempts, errors.WriteFailed)
_RETRIED = (errors.WriteFailed, errors.StoreUnavailable, errors.Overloaded, errors.CommitUnknown, errors.HeldTooLong)
_ACKED = ("none", errors.Unroutable.code, errors.Refused.code)


_PUT_ASIDE = ("undecodable", "too_large")


def begin_orders(placements: Iterable[str], replies: Iterable[str], amqp_url: str) -> None:
    """Begin what the order API counts, by how orders are placed and what replies are."""
    for placement, status in product(placements, OrderStatus):
        instruments.placed.add(0, {"outcome": placement, "status": status})
    for status, reason in _DECIDED:
        instruments.decided.add(0, {"status": status, "reason": reason})
    for reply in replies:
        instruments.replies.add(0, {"kind": reply})
    instruments.asked_again.add(0)
    begin("orders.reply_wait", {})
    begin("orders.end_to_end", *({"status": status} for status, _ in _DECIDED))
    template = topology.REPLY_QUEUE_TEMPLATE
    _begin_deliveries(template, {semconv.MESSAGING_DESTINATION_TEMPLATE: template}, amqp_url)


def begin_checks(ack: str, retry: str, dead_letter: str, amqp_url: str) -> None:
    """Begin what the inventory worker counts, by the names of the outcomes of a delivery."""
    known = [(ack, reason) for reason in _ACKED]
    known += [(retry, error.code) for error in _RETRIED]
    known += [(dead_letter, error.code) for error in _POISON]
    for outcome, reason in known:
        instruments.settled.add(0, {"outcome": outcome, "reason": reason})
    instruments.replies_withheld.add(0)
    name = f"{topology.ORDERS_EXCHANGE}:{topology.INVENTORY_CHECK}"
    _begin_deliveries(topology.INVENTORY_CHECK, {semconv.MESSAGING_DESTINATION_NAME: name}, amqp_url)


def _begin_deliveries(queue: str, destination: Mapping[str, str], amqp_url: str) -> None:
    measured = {semconv.MESSAGING_DESTINATION_NAME: queue}
    instruments.redelivered.add(0, measured)
    for code in _PUT_ASIDE:
        instruments.undecodable.add(0, {**measured, semconv.ERROR_TYPE: code})
    begin("orders.queue_wait", measured)
    begin("messaging.process.duration", {**_processing(amqp_url), **destination})


def _processing(amqp_url: str) -> dict[str, str | int]:
    server = urlsplit(amqp_url.partition(",")[0])
    return {
        semconv.MESSAGING_SYSTEM: "rabbitmq",
        semconv.MESSAGING_OPERATION_NAME: "process",
        semconv.MESSAGING_OPERATION_TYPE: "process",
        semconv.SERVER_ADDRESS: server.hostname or "localhost",
        semconv.SERVER_PORT: server.port or (5671 if server.scheme == "amqps" else 5672),
    }
