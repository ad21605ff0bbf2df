"""The attribute and event names that only orders need, once.

They live under `order.` and `inventory.`, never under a namespace of the conventions, and never fold (dots to underscores)
onto a column of OpenObserve.
"""

ORDER_ID = "order.id"
ORDER_STATUS = "order.status"
ORDER_REASON = "order.reason"

INVENTORY_IN_STOCK = "inventory.in_stock"

ASK_DEFERRED = "ask deferred"
"""The event on a request's span when its check could not be published and is left to the relay."""
