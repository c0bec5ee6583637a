"""Profiling runs and their raw samples, each pass saved as it ends, so that a cut link loses nothing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from api.store.engine import Database, dump_json
from api.store.models import now, passes, profile_runs


class ProfileStore:
    """Profiling runs: a run is one plan (cover networks, passes, seed) on one board."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open_run(self, board: str, plan_digest: str) -> int:
        """The unfinished run of this plan on this board, or a new one."""
        query = sa.select(profile_runs.c.id).where(
            profile_runs.c.board == board,
            profile_runs.c.plan_digest == plan_digest,
            profile_runs.c.state == "running",
        )
        with self._db.write() as c:
            found = c.execute(query.order_by(profile_runs.c.id.desc())).scalar()
            if found is not None:
                return int(found)
            values = {"board": board, "plan_digest": plan_digest, "state": "running", "created_at": now()}
            made = c.execute(sa.insert(profile_runs).values(**values)).inserted_primary_key
            assert made is not None
            return int(made[0])

    def save_pass(self, run_id: int, samples: Mapping[str, Any]) -> None:
        """Keep a finished pass: its raw samples, JSON types."""
        packed = zlib.compress(dump_json(samples).encode(), 6)
        last = sa.select(sa.func.coalesce(sa.func.max(passes.c.number), -1)).where(passes.c.run_id == run_id)
        with self._db.write() as c:
            number = c.execute(last).scalar_one() + 1
            c.execute(sa.insert(passes).values(run_id=run_id, number=number, samples=packed, created_at=now()))

    def load_passes(self, run_id: int) -> Iterator[dict[str, Any]]:
        """The samples of every saved pass, in the order they ended."""
        query = sa.select(passes.c.samples).where(passes.c.run_id == run_id).order_by(passes.c.number)
        with self._db.read() as c:
            for packed in c.execution_options(yield_per=8).execute(query).scalars():
                yield json.loads(zlib.decompress(packed))

    def count_passes(self, run_id: int) -> int:
        """How many passes are saved."""
        with self._db.read() as c:
            return c.execute(sa.select(sa.func.count()).where(passes.c.run_id == run_id)).scalar_one()

    def finish(self, run_id: int, table_digest: str) -> None:
        """The run gave this table."""
        with self._db.write() as c:
            c.execute(
                sa.update(profile_runs)
                .where(profile_runs.c.id == run_id)
                .values(state="complete", table_digest=table_digest)
            )

    def discard(self, run_id: int) -> None:
        """Forget an unfinished run and its passes."""
        with self._db.write() as c:
            c.execute(sa.delete(profile_runs).where(profile_runs.c.id == run_id))
