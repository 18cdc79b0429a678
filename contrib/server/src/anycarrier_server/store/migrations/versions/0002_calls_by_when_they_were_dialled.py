"""Calls by when they were dialled: what the pace of an account and the day of a number are counted by."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_calls_dialled", "calls", ["credential_id", "dial_claimed_at"])
    op.create_index("ix_calls_dialled_line", "calls", ["line_id", "dial_claimed_at"])


def downgrade() -> None:
    op.drop_index("ix_calls_dialled_line", "calls")
    op.drop_index("ix_calls_dialled", "calls")
