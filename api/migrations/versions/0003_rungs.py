"""Trials that are stopped at rungs; what a strategy thinks of its search.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("searches", sa.Column("beliefs", sa.JSON(none_as_null=True)))
    with op.batch_alter_table("trials") as trials:
        trials.add_column(sa.Column("stop_below", sa.JSON(), nullable=False, server_default="{}"))
        trials.drop_constraint(op.f("ck_trials_state"), type_="check")
        trials.create_check_constraint(op.f("ck_trials_state"), "state IN ('running', 'complete', 'pruned', 'failed')")


def downgrade() -> None:
    """Back; pruned trials become failed ones."""
    op.execute(
        "UPDATE trials SET state = 'failed', error = 'stopped at a rung', accuracy = NULL, reward = NULL "
        "WHERE state = 'pruned'"
    )
    with op.batch_alter_table("trials") as trials:
        trials.drop_constraint(op.f("ck_trials_state"), type_="check")
        trials.create_check_constraint(op.f("ck_trials_state"), "state IN ('running', 'complete', 'failed')")
        trials.drop_column("stop_below")
    op.drop_column("searches", "beliefs")
