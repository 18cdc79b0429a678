"""How far a transfer has come, and what the carrier's word for a call's end means by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("transfer", sa.String(), nullable=True))
    op.add_column("calls", sa.Column("carrier_reason", sa.String(), nullable=True))
    # A call that was being transferred had that as its intent.
    op.execute("UPDATE calls SET transfer = 'answered', intent = NULL WHERE intent = 'transferred'")


def downgrade() -> None:
    op.execute("UPDATE calls SET intent = 'transferred' WHERE transfer IS NOT NULL AND status <> 'ended'")
    op.drop_column("calls", "carrier_reason")
    op.drop_column("calls", "transfer")
