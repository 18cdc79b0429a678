"""What a carrier charges for a call, and the facts its provider needs again later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anycarrier_server.store import columns

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("price", columns.Json, nullable=True))
    op.add_column("calls", sa.Column("facts", columns.Json, nullable=True))


def downgrade() -> None:
    op.drop_column("calls", "facts")
    op.drop_column("calls", "price")
