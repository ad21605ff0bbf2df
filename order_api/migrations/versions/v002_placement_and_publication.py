"""Which placement made an order, and when its check was last confirmed by the broker; unknown for orders from before."""

import sqlalchemy as sa
from alembic import op

revision = "v002_placement_and_publication"
down_revision = "v001_orders"

_IS_PENDING = sa.text("status = 'pending'")
_IS_DECIDED = sa.text("decided_at IS NOT NULL")


def upgrade() -> None:
    """Add the columns, an index for each claim of the outbox, and one to find what is old by."""
    op.add_column("orders", sa.Column("placement_id", sa.Text))
    op.add_column("orders", sa.Column("published_at", sa.Double))
    # The index of v001 stays: without it, an instance from before would read the whole table each second.
    op.create_index(
        "orders_pending",
        "orders",
        ["published_at", "ask_at"],
        sqlite_where=_IS_PENDING,
        postgresql_where=_IS_PENDING,
    )
    op.create_index("orders_decided", "orders", ["decided_at"], sqlite_where=_IS_DECIDED, postgresql_where=_IS_DECIDED)
