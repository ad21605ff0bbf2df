"""The table of orders, as the first version of the service made it: where that has been, it is there already."""

import sqlalchemy as sa
from alembic import op

revision = "v001_orders"
down_revision = None

_IS_PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    """Create what is missing."""
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("lines", sa.Text, nullable=False),
        sa.Column("customer", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("decided_at", sa.Double),
        sa.Column("ask_at", sa.Double, nullable=False),
        sa.Column("ask_delay", sa.Double, nullable=False),
        if_not_exists=True,
    )
    op.create_index(
        "orders_to_ask",
        "orders",
        ["ask_at"],
        sqlite_where=_IS_PENDING,
        postgresql_where=_IS_PENDING,
        if_not_exists=True,
    )
