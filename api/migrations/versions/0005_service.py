"""The service: jobs that workers claim, events, remote evaluations, artifacts, tokens, answers.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATES = "state IN ('running', 'stopped', 'complete', 'failed')"
_SERVED_STATES = "state IN ('queued', 'running', 'paused', 'stopped', 'cancelled', 'complete', 'failed')"
_COUNTED = ("running", "complete", "pruned", "failed")


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("searches") as searches:
        searches.add_column(sa.Column("owner", sa.String(64)))
        for state in _COUNTED:
            searches.add_column(sa.Column(state, sa.BigInteger(), nullable=False, server_default="0"))
        searches.add_column(sa.Column("best_reward", sa.Double()))
        searches.add_column(sa.Column("best_number", sa.BigInteger()))
        searches.drop_constraint(op.f("ck_searches_state"), type_="check")
        searches.create_check_constraint(op.f("ck_searches_state"), _SERVED_STATES)
    for state in _COUNTED:
        op.execute(
            f"UPDATE searches SET {state} = "
            f"(SELECT count(*) FROM trials WHERE trials.search_id = searches.id AND trials.state = '{state}')"
        )
    op.execute(
        "UPDATE searches SET best_reward = "
        "(SELECT max(reward) FROM trials WHERE trials.search_id = searches.id AND trials.state = 'complete')"
    )
    op.execute(
        "UPDATE searches SET best_number = (SELECT min(number) FROM trials WHERE trials.search_id = searches.id "
        "AND trials.state = 'complete' AND trials.reward = searches.best_reward)"
    )
    op.create_index("ix_trials_state", "trials", ["search_id", "state", "number"])
    op.create_index("ix_trials_reward", "trials", ["search_id", "state", sa.text("reward DESC"), "number"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("search_id", sa.Integer()),
        sa.Column("board", sa.String(64)),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wanted", sa.String(16), nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("token", sa.String(32)),
        _when("lease_until", nullable=True),
        _when("not_before", nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("progress", sa.JSON(none_as_null=True)),
        sa.Column("result", sa.JSON(none_as_null=True)),
        sa.Column("error", sa.Text()),
        _when("created_at"),
        _when("queued_at"),
        _when("started_at", nullable=True),
        _when("finished_at", nullable=True),
        sa.CheckConstraint("kind IN ('search', 'profile', 'verify', 'train', 'export')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'paused', 'complete', 'failed', 'cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.CheckConstraint("wanted IN ('run', 'pause', 'cancel')", name=op.f("ck_jobs_wanted")),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_jobs_search_id_searches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "id"])
    op.create_index("ix_jobs_search_id", "jobs", ["search_id", "kind"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("search_id", sa.Integer()),
        sa.Column("job_id", sa.Integer()),
        sa.Column("trial", sa.BigInteger()),
        sa.Column("data", sa.JSON(), nullable=False),
        _when("created_at"),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_events_search_id_searches"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_search_id", "events", ["search_id", "id"])
    op.create_index("ix_events_job_id", "events", ["job_id"])
    op.create_table(
        "evaluations",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("client", sa.String(64)),
        sa.Column("token", sa.String(32)),
        _when("lease_until", nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.JSON(none_as_null=True)),
        _when("leased_at", nullable=True),
        sa.CheckConstraint("state IN ('open', 'leased', 'ended')", name=op.f("ck_evaluations_state")),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_evaluations_search_id_searches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_evaluations")),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.String(128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        _when("created_at"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_artifacts_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_artifacts_search_id_searches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("job_id", "name", name=op.f("uq_artifacts_job_id")),
    )
    op.create_index("ix_artifacts_search_id", "artifacts", ["search_id"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("role", sa.String(8), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("hash", sa.String(64), nullable=False),
        _when("created_at"),
        _when("expires_at", nullable=True),
        _when("revoked_at", nullable=True),
        _when("used_at", nullable=True),
        sa.CheckConstraint("role IN ('read', 'user', 'admin')", name=op.f("ck_tokens_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_table(
        "answers",
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True)),
        _when("created_at"),
        sa.PrimaryKeyConstraint("user", "key", name=op.f("pk_answers")),
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"])
    op.create_table(
        "workers",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("executor", sa.String(16), nullable=False),
        _when("started_at"),
        _when("seen_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    """Back; jobs, events, artifacts' records and tokens are lost, and a search that waits counts as stopped."""
    for table in ("workers", "answers", "tokens", "artifacts", "evaluations", "events", "jobs"):
        op.drop_table(table)
    for index in ("ix_trials_reward", "ix_trials_state"):
        op.drop_index(index, "trials")
    op.execute("UPDATE searches SET state = 'stopped' WHERE state IN ('queued', 'paused', 'cancelled')")
    with op.batch_alter_table("searches") as searches:
        searches.drop_constraint(op.f("ck_searches_state"), type_="check")
        searches.create_check_constraint(op.f("ck_searches_state"), _STATES)
        for column in ("best_number", "best_reward", *reversed(_COUNTED), "owner"):
            searches.drop_column(column)


def _when(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
