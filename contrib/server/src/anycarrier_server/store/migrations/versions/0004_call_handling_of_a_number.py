"""What was set for one number of how its calls are taken: the agent's other numbers keep the agent's own setting."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kind = sa.JSON().with_variant(JSONB(), "postgresql")
    op.add_column("lines", sa.Column("call_handling", kind, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("lines", "call_handling")
