"""The tables of the store. What a column means is said here; migrations say how a database comes to have it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """Aware datetimes in UTC on every database; SQLite itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Aware -> UTC."""
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """What the database gives -> aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def now() -> dt.datetime:
    """This moment, aware."""
    return dt.datetime.now(dt.UTC)


def _when(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, UtcDateTime(), nullable=nullable)


boards = Table(
    "boards",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("address", Text, nullable=False),
    Column("engine", String(32), nullable=False),
    Column("threads", Integer, nullable=False),
    Column("cores", JSON, nullable=False),
    Column("dtype", String(8), nullable=False),
    Column("identity_file", Text),
    Column("facts", JSON(none_as_null=True)),  # what the last check found on the board
    _when("created_at"),
)

# Immutable: a table of other content has another digest. `board` is no foreign key, so that removing a board keeps
# the tables measured on it and the searches that pin them.
latency_tables = Table(
    "latency_tables",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("board", String(64), nullable=False),
    Column("spaces", Text, nullable=False),  # names, joined by commas
    Column("engine", String(32), nullable=False),
    Column("ops", Integer, nullable=False),
    Column("content", JSON, nullable=False),  # LatencyTable.to_json without its entries
    _when("created_at"),
    Index("ix_latency_tables_board", "board", "created_at"),
)

table_entries = Table(
    "table_entries",
    metadata,
    Column("table_digest", String(64), ForeignKey(latency_tables.c.digest, ondelete="CASCADE"), primary_key=True),
    Column("op_key", Text, primary_key=True),
    Column("ms", Double, nullable=False),
    Column("spread", Double, nullable=False),
    Column("samples", Integer, nullable=False),  # 0: estimated, not timed
    Column("sigma", Double, nullable=False, server_default="0"),  # standard error of log(ms) of an estimate
)

profile_runs = Table(
    "profile_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("board", String(64), nullable=False),
    Column("plan_digest", String(64), nullable=False),  # what must agree for passes to be reused
    Column("state", String(16), nullable=False),
    Column("table_digest", String(64), ForeignKey(latency_tables.c.digest, ondelete="SET NULL")),
    _when("created_at"),
    CheckConstraint("state IN ('running', 'complete')", name="state"),
    Index("ix_profile_runs_board", "board", "plan_digest"),
)

passes = Table(
    "passes",
    metadata,
    Column("run_id", Integer, ForeignKey(profile_runs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # in the order they ended
    Column("samples", LargeBinary, nullable=False),  # zlib of the pass's JSON: the raw samples
    _when("created_at"),
)

searches = Table(
    "searches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("spec", JSON, nullable=False),  # api.compose.SearchSpec: everything that decides the trials
    Column("space", Text, nullable=False),
    Column("space_digest", String(64), nullable=False),
    Column("board", String(64)),
    Column("table_digest", String(64), ForeignKey(latency_tables.c.digest, ondelete="RESTRICT")),
    Column("owner", String(64)),  # the user who submitted it; NULL: made on the command line of this store
    # Trials per state and the best one, kept with every trial that is written: a list of searches counts nothing.
    Column("running", BigInteger, nullable=False, server_default="0"),
    Column("complete", BigInteger, nullable=False, server_default="0"),
    Column("pruned", BigInteger, nullable=False, server_default="0"),
    Column("failed", BigInteger, nullable=False, server_default="0"),
    Column("best_reward", Double),
    Column("best_number", BigInteger),
    Column("beliefs", JSON(none_as_null=True)),  # nas.strategy.Beliefs when the search last stopped
    Column("winner", JSON(none_as_null=True)),  # set when the best network has been trained to the end
    Column("error", Text),
    _when("created_at"),
    _when("finished_at", nullable=True),
    CheckConstraint(
        "state IN ('queued', 'running', 'paused', 'stopped', 'cancelled', 'complete', 'failed')", name="state"
    ),
)

# A network of a search, or a baseline beside it, trained to the end with one seed; written when it has ended.
trainings = Table(
    "trainings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", Integer, ForeignKey(searches.c.id, ondelete="CASCADE"), nullable=False),
    Column("key", String(64), nullable=False),  # of space, encoding, options and seed; names its folder
    Column("label", Text, nullable=False),  # what a report calls the network
    Column("trial", BigInteger),  # of the search; NULL for a baseline
    Column("space", JSON, nullable=False),  # nas.spaces.recipe.SpaceSpec
    Column("encoding", Text, nullable=False),
    Column("options", JSON, nullable=False),  # of the evaluator `training`
    Column("seed", BigInteger, nullable=False),
    Column("val_accuracy", Double, nullable=False),
    Column("test_accuracy", Double),  # only where it was looked at: of the winner and its baselines
    Column("recall", JSON(none_as_null=True)),  # per class, on the test pictures
    Column("history", JSON, nullable=False),
    Column("init", JSON(none_as_null=True)),  # nas.weights.Fit of initial weights
    Column("seconds", Double, nullable=False),
    _when("created_at"),
    UniqueConstraint("search_id", "key"),
)

trials = Table(
    "trials",
    metadata,
    Column("search_id", Integer, ForeignKey(searches.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("encoding", Text, nullable=False),  # choice indices joined by commas
    Column("state", String(16), nullable=False),
    Column("accuracy", Double),
    Column("reward", Double),
    Column("costs", JSON, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("extras", JSON, nullable=False),
    Column("attrs", JSON, nullable=False),
    Column("error", Text),
    Column("stop_below", JSON, nullable=False, server_default="{}"),  # rung -> accuracy below which it ends there
    _when("started_at"),
    _when("finished_at", nullable=True),
    CheckConstraint("state IN ('running', 'complete', 'pruned', 'failed')", name="state"),
    Index("ix_trials_state", "search_id", "state", "number"),
    Index("ix_trials_reward", "search_id", "state", text("reward DESC"), "number"),  # the best first
)

# Work a worker claims. A search has one for as long as it is served; searches of the command line have none.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("search_id", Integer, ForeignKey(searches.c.id, ondelete="CASCADE")),
    Column("board", String(64)),
    Column("spec", JSON, nullable=False),  # what was asked; its form follows from the kind (api.jobs)
    Column("owner", String(64)),
    Column("state", String(16), nullable=False),
    Column("wanted", String(16), nullable=False),  # what its user wants of a running one
    Column("worker", String(64)),
    Column("token", String(32)),  # of the claim: whoever writes with another one has lost the job
    _when("lease_until", nullable=True),
    _when("not_before", nullable=True),  # a job given back may wait for what it missed
    Column("attempts", Integer, nullable=False),  # claims since it last made progress
    Column("progress", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("error", Text),
    _when("created_at"),
    _when("queued_at"),  # since when it waits, or last waited
    _when("started_at", nullable=True),
    _when("finished_at", nullable=True),
    CheckConstraint("kind IN ('search', 'profile', 'verify', 'train', 'export')", name="kind"),
    CheckConstraint("state IN ('queued', 'running', 'paused', 'complete', 'failed', 'cancelled')", name="state"),
    CheckConstraint("wanted IN ('run', 'pause', 'cancel')", name="wanted"),
    Index("ix_jobs_state", "state", "id"),
    Index("ix_jobs_search_id", "search_id", "kind"),
)

# What happened, in the order in which it was committed: the event stream, the log and the dashboard read it.
events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("search_id", Integer, ForeignKey(searches.c.id, ondelete="CASCADE")),
    Column("job_id", Integer, ForeignKey(jobs.c.id, ondelete="CASCADE")),
    Column("trial", BigInteger),
    Column("data", JSON, nullable=False),
    _when("created_at"),
    Index("ix_events_search_id", "search_id", "id"),
    Index("ix_events_job_id", "job_id"),
)

# Trials that wait for, or are with, a remote evaluator; a row goes when the search has taken its outcome.
evaluations = Table(
    "evaluations",
    metadata,
    Column("search_id", Integer, ForeignKey(searches.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("task", JSON, nullable=False),  # nas.executor.Task as JSON
    Column("state", String(16), nullable=False),
    Column("client", String(64)),
    Column("token", String(32)),  # of the lease
    _when("lease_until", nullable=True),
    Column("attempts", Integer, nullable=False),  # leases given so far
    Column("steps", JSON, nullable=False),  # reports of the present lease, in order
    Column("outcome", JSON(none_as_null=True)),
    _when("leased_at", nullable=True),
    CheckConstraint("state IN ('open', 'leased', 'ended')", name="state"),
)

# Files that jobs made, below the artifacts folder.
artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("search_id", Integer, ForeignKey(searches.c.id, ondelete="CASCADE")),
    Column("name", Text, nullable=False),  # a relative path, unique in its job
    Column("media_type", String(128), nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("sha256", String(64), nullable=False),
    _when("created_at"),
    UniqueConstraint("job_id", "name"),
    Index("ix_artifacts_search_id", "search_id"),
)

# Who may do what. The secret itself is nowhere: `hash` is SHA-256 of 256 random bits, which nothing can guess.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("user", String(64), nullable=False),
    Column("role", String(8), nullable=False),
    Column("note", Text),
    Column("hash", String(64), nullable=False),
    _when("created_at"),
    _when("expires_at", nullable=True),
    _when("revoked_at", nullable=True),
    _when("used_at", nullable=True),
    CheckConstraint("role IN ('read', 'user', 'admin')", name="role"),
)

# Answers to POSTs with an Idempotency-Key, written in the transaction of what the request did.
answers = Table(
    "answers",
    metadata,
    Column("user", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # SHA-256 of method, path and body
    Column("status", Integer, nullable=False),
    Column("body", JSON(none_as_null=True)),
    _when("created_at"),
    Index("ix_answers_created_at", "created_at"),
)

# Workers that are, or were lately, alive.
workers = Table(
    "workers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("capacity", Integer, nullable=False),  # jobs at once
    Column("executor", String(16), nullable=False),  # of trials: processes or ray
    _when("started_at"),
    _when("seen_at"),
)
