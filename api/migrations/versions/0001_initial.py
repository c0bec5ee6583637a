"""Boards, latency tables, profiling passes, searches and trials.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "boards",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("cores", sa.JSON(), nullable=False),
        sa.Column("dtype", sa.String(length=8), nullable=False),
        sa.Column("identity_file", sa.Text(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_boards")),
    )
    op.create_table(
        "latency_tables",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("board", sa.String(length=64), nullable=False),
        sa.Column("spaces", sa.Text(), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("ops", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_latency_tables")),
    )
    op.create_index("ix_latency_tables_board", "latency_tables", ["board", "created_at"], unique=False)
    op.create_table(
        "profile_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("board", sa.String(length=64), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("table_digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('running', 'complete')", name=op.f("ck_profile_runs_state")),
        sa.ForeignKeyConstraint(
            ["table_digest"],
            ["latency_tables.digest"],
            name=op.f("fk_profile_runs_table_digest_latency_tables"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profile_runs")),
    )
    op.create_index("ix_profile_runs_board", "profile_runs", ["board", "plan_digest"], unique=False)
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("space_digest", sa.String(length=64), nullable=False),
        sa.Column("board", sa.String(length=64), nullable=True),
        sa.Column("table_digest", sa.String(length=64), nullable=True),
        sa.Column("winner", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('running', 'stopped', 'complete', 'failed')", name=op.f("ck_searches_state")),
        sa.ForeignKeyConstraint(
            ["table_digest"],
            ["latency_tables.digest"],
            name=op.f("fk_searches_table_digest_latency_tables"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
        sa.UniqueConstraint("name", name=op.f("uq_searches_name")),
    )
    op.create_table(
        "table_entries",
        sa.Column("table_digest", sa.String(length=64), nullable=False),
        sa.Column("op_key", sa.Text(), nullable=False),
        sa.Column("ms", sa.Double(), nullable=False),
        sa.Column("spread", sa.Double(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["table_digest"],
            ["latency_tables.digest"],
            name=op.f("fk_table_entries_table_digest_latency_tables"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("table_digest", "op_key", name=op.f("pk_table_entries")),
    )
    op.create_table(
        "passes",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["profile_runs.id"], name=op.f("fk_passes_run_id_profile_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_passes")),
    )
    op.create_table(
        "trials",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("costs", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("extras", sa.JSON(), nullable=False),
        sa.Column("attrs", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('running', 'complete', 'failed')", name=op.f("ck_trials_state")),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_trials_search_id_searches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_trials")),
    )


def downgrade() -> None:
    """Back to an empty database."""
    op.drop_table("trials")
    op.drop_table("passes")
    op.drop_table("table_entries")
    op.drop_table("searches")
    op.drop_index("ix_profile_runs_board", table_name="profile_runs")
    op.drop_table("profile_runs")
    op.drop_index("ix_latency_tables_board", table_name="latency_tables")
    op.drop_table("latency_tables")
    op.drop_table("boards")
