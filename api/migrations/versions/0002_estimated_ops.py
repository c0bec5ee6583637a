"""Ops that are estimated and not timed: their standard error.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("table_entries", sa.Column("sigma", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Back."""
    op.drop_column("table_entries", "sigma")
