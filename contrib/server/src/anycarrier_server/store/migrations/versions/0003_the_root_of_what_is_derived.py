"""The root of what is derived: media tickets and recording addresses outlive a change of the master key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("canary", sa.Column("root", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("canary", "root")
