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
    Column("beliefs", JSON(none_as_null=True)),  # nas.strategy.Beliefs when the search last stopped
    Column("winner", JSON(none_as_null=True)),  # set when the best network has been trained to the end
    Column("error", Text),
    _when("created_at"),
    _when("finished_at", nullable=True),
    CheckConstraint("state IN ('running', 'stopped', 'complete', 'failed')", name="state"),
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
)
