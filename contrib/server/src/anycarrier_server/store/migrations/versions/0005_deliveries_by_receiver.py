"""Deliveries by receiver: a slow or dead one waits for itself only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook_deliveries", sa.Column("receiver", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE webhook_deliveries SET receiver = lane WHERE status = 'pending'")


def downgrade() -> None:
    op.drop_column("webhook_deliveries", "receiver")
