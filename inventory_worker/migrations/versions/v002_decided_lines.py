"""What a decision was taken on, to know another check for the same order by; unknown for decisions from before."""

import sqlalchemy as sa
from alembic import op

revision = "v002_decided_lines"
down_revision = "v001_stock"


def upgrade() -> None:
    """Add the column, and an index to find old decisions by."""
    op.add_column("decisions", sa.Column("lines", sa.Text))
    op.create_index("decisions_decided", "decisions", ["decided_at"])
