"""Orders in a database: stored, decided, found again."""

from order_api.order_table import find
from order_api.order_writes import OrderCommits
from order_api.orders import Decision, Order, Recorded
from shared.storage.database import Database
from shared.storage.group_read import GroupRead


class SqlOrderStore:
    """Keeps orders in SQLite or PostgreSQL; concurrent writes share a transaction, as do reads."""

    def __init__(self, database: Database, commits: OrderCommits) -> None:
        self._commits = commits
        self._reads = GroupRead(database, find)

    async def add(self, order: Order) -> tuple[Order, bool]:
        """Store a pending order; gives the stored one, and whether it was new."""
        stored: Order = await self._commits.submit(order)
        # A write that was done again after a lost commit finds itself.
        return stored, stored.placement_id == order.placement_id

    async def record(self, decision: Decision) -> Recorded | None:
        """Record a decision; None for an order that is not known here.

        An `error` gives way to a later decision, because it took no stock: that is how a replayed dead letter completes.
        """
        recorded: Recorded | None = await self._commits.submit(decision)
        return recorded

    async def get(self, order_id: str) -> Order | None:
        """Find an order."""
        return await self._reads.get(order_id)
