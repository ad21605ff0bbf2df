"""Stock and decisions, as the first version of the service made them: where that has been, they are there already."""

import sqlalchemy as sa
from alembic import op

revision = "v001_stock"
down_revision = None


def upgrade() -> None:
    """Create what is missing."""
    op.create_table(
        "stock",
        sa.Column("sku", sa.Text, primary_key=True),
        sa.Column("available", sa.BigInteger, sa.CheckConstraint("available >= 0"), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "decisions",
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("decided_at", sa.Double, nullable=False),
        sa.Column("traceparent", sa.Text),
        if_not_exists=True,
    )
