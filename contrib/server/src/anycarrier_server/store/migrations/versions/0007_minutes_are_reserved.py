"""Daily minutes are reserved when a call is let in, and settled when it ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("usage_windows", sa.Column("reserved", sa.Double(), nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("reserved", sa.Double(), nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("settled", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE usage SET settled = (seconds > 0)")


def downgrade() -> None:
    op.drop_column("usage", "settled")
    op.drop_column("usage", "reserved")
    op.drop_column("usage_windows", "reserved")
