"""What the inventory does with a check: reserve the stock and decide, once for each order."""

from inventory_worker.stock_store import Reservation, SqlStockStore
from shared.contract.messages import CheckInventory, InventoryDecision, OrderStatus
from shared.rabbit.delivery import Handled
from shared.telemetry import carry


class Reserve:
    """Decides on checks against the stock."""

    def __init__(self, store: SqlStockStore) -> None:
        self._store = store

    async def reserve(self, check: CheckInventory) -> Handled:
        """Take the stock for an order, all of its items or none; a repeat gets what was decided before."""
        reserved = await self._store.reserve(Reservation(check, carry()))
        ruling = reserved.ruling
        decision = InventoryDecision(order_id=check.order_id, status=ruling.status, reason=ruling.reason)
        return Handled(decision, None if reserved.is_new else reserved.traceparent)

    async def refuse(self, order_id: str, reason: str) -> InventoryDecision:
        """Refuse an order, unless an attempt before this one has decided on it: then that decision is the truth.

        Raises StoreUnavailable where it cannot be known: whoever asks again later gets the truth.
        """
        ruling = await self._store.find_ruling(order_id)
        if ruling is not None:
            return InventoryDecision(order_id=order_id, status=ruling.status, reason=ruling.reason)
        return InventoryDecision(order_id=order_id, status=OrderStatus.ERROR, reason=reason)
