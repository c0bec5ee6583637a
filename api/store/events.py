"""What happened, in one order: every event is written in the transaction of what it tells."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from api.store.engine import Database
from api.store.fence import Fence
from api.store.models import events, now

# Numbers are given before a transaction commits; without the lock a reader could pass over one that commits late.
_ORDER = sa.select(sa.func.pg_advisory_xact_lock(0x6C6E6576))
_INSERT = sa.insert(events)


@dataclass(frozen=True)
class Event:
    """Something that happened; the columns of `api.store.models.events`.

    Attributes:
        id: rises in the order in which events became visible.
        kind: `search.created`, `search.state`, `trial.started`, `trial.step`, `trial.ended`, `job.state`,
            `job.progress`, `search.deleted`, `job.deleted`.
        search_id, job_id, trial: what it is about, as far as it applies.
        data: what is new.
        created_at: when.
    """

    id: int
    kind: str
    search_id: int | None
    job_id: int | None
    trial: int | None
    data: dict[str, Any]
    created_at: dt.datetime


def note(
    connection: sa.Connection,
    kind: str,
    *,
    data: Mapping[str, Any],
    search_id: int | None = None,
    job_id: int | None = None,
    trial: int | None = None,
) -> None:
    """Write an event as a part of a transaction; the last thing in it, since writers of events wait for each other."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ORDER)
    values = {"kind": kind, "search_id": search_id, "job_id": job_id, "trial": trial}
    connection.execute(_INSERT, {**values, "data": dict(data), "created_at": now()})


class EventStore:
    """The events of all searches and jobs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self,
        kind: str,
        data: Mapping[str, Any],
        *,
        search_id: int | None = None,
        job_id: int | None = None,
        trial: int | None = None,
    ) -> None:
        """Write an event that stands for itself."""
        with self._db.write() as c:
            note(c, kind, data=data, search_id=search_id, job_id=job_id, trial=trial)

    def add_steps(
        self, search_id: int, steps: Sequence[tuple[int, Mapping[str, Any]]], fence: Fence | None = None
    ) -> None:
        """Write (trial, data) of steps that running trials made.

        Raises:
            JobLost: by `fence`, the claim on the job that runs the search.
        """
        with self._db.write() as c:
            if fence is not None:
                fence.check(c)  # which also keeps whoever deletes the search waiting, before he holds it
            for trial, data in steps:
                note(c, "trial.step", data=data, search_id=search_id, trial=trial)

    def after(self, last: int, *, search_id: int | None = None, limit: int = 1000) -> list[Event]:
        """The events after number `last`, in order; of one search if named."""
        return self.page(last, search_id=search_id, limit=limit)

    def page(
        self,
        after: int,
        *,
        before: int | None = None,
        search_id: int | None = None,
        job_id: int | None = None,
        trial: int | None = None,
        kinds: Collection[str] = (),
        limit: int = 1000,
    ) -> list[Event]:
        """The events after number `after`, in order: the first of them, or the last ones in front of number `before`.

        Args:
            after: only those beyond this number.
            before: only those below this number, and of them the newest.
            search_id: only those of one search.
            job_id: only those of one job.
            trial: only those of the trial with this number.
            kinds: only those of these kinds; none named: of all.
            limit: at most so many.
        """
        order = events.c.id if before is None else events.c.id.desc()
        query = sa.select(events).where(events.c.id > after).order_by(order).limit(limit)
        if before is not None:
            query = query.where(events.c.id < before)
        if search_id is not None:
            query = query.where(events.c.search_id == search_id)
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        if trial is not None:
            query = query.where(events.c.trial == trial)
        if kinds:
            query = query.where(events.c.kind.in_(kinds))
        with self._db.read() as c:
            found = [Event(**row) for row in c.execute(query).mappings()]
        return found if before is None else found[::-1]

    def newest(self) -> int:
        """The number of the newest event; 0 if there is none."""
        with self._db.read() as c:
            return int(c.execute(sa.select(sa.func.max(events.c.id))).scalar() or 0)
