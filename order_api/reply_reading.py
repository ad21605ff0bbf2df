"""What a reply says, read from its envelope and body; what cannot be read is a MalformedMessage."""

from order_api.orders import Decision
from shared.contract.envelope import Envelope
from shared.contract.errors import MalformedMessage
from shared.contract.messages import CheckDelayed, InventoryDecision, OrderStatus, require_type


def read_decision(envelope: Envelope, body: bytes) -> Decision:
    """Read the decision on an order."""
    require_type(envelope.type, InventoryDecision.TYPE)
    decision = InventoryDecision.decode(body)
    if decision.status is OrderStatus.PENDING:
        raise MalformedMessage("a reply that decides nothing")
    _require_order(envelope, decision.order_id)
    return Decision(decision.order_id, decision.status, decision.reason)


def read_delay(envelope: Envelope, body: bytes) -> CheckDelayed:
    """Read that a check is tried again later."""
    delayed = CheckDelayed.decode(body)
    _require_order(envelope, delayed.order_id)
    return delayed


def _require_order(envelope: Envelope, order_id: str) -> None:
    if envelope.correlation_id != order_id:
        raise MalformedMessage("the reply names another order than its correlation id")
