"""Jobs: what users submit and workers claim. A claim is a lease: it is renewed while the worker lives, or runs out."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from api.errors import Conflict, JobLost, NotFound
from api.store.engine import Database
from api.store.events import note
from api.store.fence import Fence
from api.store.models import jobs, now, searches
from api.store.texts import error_text, storable

ATTEMPTS = 20
"""Claims without any progress after which a job fails: something in it kills its workers."""
_FINAL = ("complete", "failed", "cancelled")


class Wanted(StrEnum):
    """What a job's user wants of it."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True)
class JobRecord:
    """A job; the columns of `api.models.jobs`, without the claim's token."""

    id: int
    kind: str
    search_id: int | None
    board: str | None
    spec: dict[str, Any]
    owner: str | None
    state: str
    wanted: str
    worker: str | None
    lease_until: dt.datetime | None
    not_before: dt.datetime | None
    attempts: int
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str | None
    created_at: dt.datetime
    queued_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


@dataclass(frozen=True)
class Claim:
    """A job that a worker has, and the fence that its writing passes."""

    job: JobRecord
    fence: Fence


_COLUMNS = [c for c in jobs.c if c.name != "token"]


class JobStore:
    """The jobs.

    A search's job moves its search along: both are always in the same state, in one transaction.
    """

    # Whatever writes to the store locks in one order, so that no two transactions wait for each other: rows of jobs
    # (of several the lowest number first), then rows of searches, last the turn to write an event (`events.note`).
    # Writing an event of a search or job also keeps that row from being deleted, by then after the turn. So whoever
    # waits for his turn holds a search by no more than `Hold.CHANGE`; to delete one he holds all its jobs, too, and
    # nobody is left who would tell of it.

    def __init__(self, database: Database) -> None:
        self._db = database

    # What users do -----------------------------------------------------------------------------------------------

    def create(
        self,
        kind: str,
        spec: Mapping[str, Any],
        *,
        owner: str | None = None,
        search_id: int | None = None,
        board: str | None = None,
    ) -> JobRecord:
        """Queue a job."""
        values: dict[str, Any] = {
            "kind": kind,
            "spec": dict(spec),
            "owner": owner,
            "search_id": search_id,
            "board": board,
        }
        moment = now()
        values |= {"state": "queued", "wanted": Wanted.RUN, "attempts": 0, "created_at": moment, "queued_at": moment}
        with self._db.write() as c:
            inserted = c.execute(sa.insert(jobs).values(values))
            assert inserted.inserted_primary_key is not None
            job = self._one(c, int(inserted.inserted_primary_key[0]))
            self._tell(c, job, {})
        return job

    def get(self, job_id: int) -> JobRecord:
        """The job of that number.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as c:
            return self._one(c, job_id)

    def hold(self, record: JobRecord) -> JobRecord:
        """A job looked up before, as it is now; in a transaction, nobody else changes it until that ends.

        Raises:
            NotFound: it was deleted, though its number may be another's by now.
        """
        with self._db.write() as c:
            job = self._one(c, record.id, lock=True)
        if job.created_at != record.created_at:
            raise NotFound(f"job {record.id} was deleted just now, and another one has its number; look at that")
        return job

    def hold_all(self, search_id: int, limit: int) -> list[JobRecord]:
        """The first `limit` jobs about a search, held as by `hold`."""
        query = sa.select(*_COLUMNS).where(jobs.c.search_id == search_id).order_by(jobs.c.id).limit(limit)
        with self._db.write() as c:
            return [JobRecord(**row) for row in c.execute(query.with_for_update()).mappings()]

    def of_search(self, search_id: int) -> JobRecord | None:
        """The job that runs a search; None for a search of the command line."""
        query = sa.select(*_COLUMNS).where(jobs.c.search_id == search_id, jobs.c.kind == "search")
        with self._db.read() as c:
            row = c.execute(query).mappings().first()
        return None if row is None else JobRecord(**row)

    def page(
        self, *, after: int | None = None, limit: int = 100, filters: Mapping[str, Any] | None = None
    ) -> list[JobRecord]:
        """Jobs, newest first: those with a number below `after`; `filters`: column -> value."""
        query = sa.select(*_COLUMNS).order_by(jobs.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(jobs.c.id < after)
        for column, value in (filters or {}).items():
            query = query.where(jobs.c[column] == value)
        with self._db.read() as c:
            return [JobRecord(**row) for row in c.execute(query).mappings()]

    def stop(self, job_id: int, wanted: Wanted) -> JobRecord:
        """Pause or cancel a job: at once where it waits, after its running step where a worker has it.

        Raises:
            Conflict: it is over, or cannot be paused.
        """
        with self._db.write() as c:
            job = self._one(c, job_id, lock=True)
            if wanted is Wanted.PAUSE and job.kind != "search":
                raise Conflict(f"job {job_id} is a {job.kind} job: only searches can be paused; cancel it")
            if job.state in _FINAL or (job.state == "paused" and wanted is Wanted.PAUSE):
                raise Conflict(f"{self._called(c, job)} is {job.state} already")
            if job.state == "running":
                c.execute(sa.update(jobs).where(jobs.c.id == job_id).values(wanted=wanted))
            else:
                self._end(c, job, "paused" if wanted is Wanted.PAUSE else "cancelled")
            return self._one(c, job_id)

    def requeue(self, job_id: int) -> JobRecord:
        """Queue a job again that is paused or over, to go on with it.

        Raises:
            Conflict: it waits or runs.
        """
        with self._db.write() as c:
            job = self._one(c, job_id, lock=True)
            if job.state in ("queued", "running"):
                raise Conflict(f"{self._called(c, job)} is {job.state} already")
            values = {"state": "queued", "wanted": Wanted.RUN, "attempts": 0, "error": None, "finished_at": None}
            c.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**values, queued_at=now(), not_before=None))
            job = self._one(c, job_id)
            self._tell(c, job, {})
        return job

    def delete(self, job_id: int) -> None:
        """Remove a job that is over.

        Raises:
            Conflict: it waits or runs.
        """
        with self._db.write() as c:
            job = self._one(c, job_id, lock=True)
            self.check_over(job)
            c.execute(sa.delete(jobs).where(jobs.c.id == job_id))

    def check_over(self, job: JobRecord) -> None:
        """Raises Conflict if a job waits or runs."""
        if job.state not in (*_FINAL, "paused"):
            raise Conflict(f"job {job.id} is {job.state}; cancel it first")

    # What workers do ---------------------------------------------------------------------------------------------

    def claim(self, worker: str, lease_s: float, *, boards: bool = True) -> Claim | None:
        """Take the oldest job that waits, or whose worker is gone; None if there is none.

        Args:
            worker: its name.
            lease_s: how long the claim holds without `renew`.
            boards: whether the worker reaches the boards; without, it takes no job that needs one.
        """
        with self._db.write() as c:
            moment = self._db.now(c)
            waits = (jobs.c.state == "queued") & (jobs.c.not_before.is_(None) | (jobs.c.not_before <= moment))
            lost = (jobs.c.state == "running") & (jobs.c.lease_until < moment)
            query = sa.select(*_COLUMNS).where(waits | lost).order_by(jobs.c.id).limit(1)
            if not boards:
                query = query.where(jobs.c.board.is_(None) | (jobs.c.kind == "search"))
            row = c.execute(query.with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            job = JobRecord(**row)
            if job.state == "running" and job.wanted != Wanted.RUN:  # its worker died before it could do as wanted
                self._end(c, job, "paused" if job.wanted == Wanted.PAUSE else "cancelled")
                return None
            if job.attempts >= ATTEMPTS:
                last = "" if job.error is None else f"; the last: {job.error}"
                self._end(c, job, "failed", error=f"given up after {ATTEMPTS} attempts without any progress{last}")
                return None
            token = secrets.token_hex(16)
            values = {"state": "running", "worker": worker, "token": token, "attempts": job.attempts + 1}
            values |= {"lease_until": moment + dt.timedelta(seconds=lease_s), "started_at": job.started_at or moment}
            c.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
            job = self._one(c, job.id)
            self._tell(c, job, {"worker": worker})
        return Claim(job, Fence(job.id, token))

    def renew(self, claims: Sequence[Fence], lease_s: float) -> dict[int, Wanted]:
        """Hold claims for longer.

        Returns:
            Job -> what its user wants, for the jobs that are still the worker's.
        """
        held = {}
        with self._db.write() as c:
            until = self._db.now(c) + dt.timedelta(seconds=lease_s)
            for fence in sorted(claims, key=lambda f: f.job_id):  # one order: two workers never wait for each other
                mine = (jobs.c.id == fence.job_id) & (jobs.c.token == fence.token)
                if c.execute(sa.update(jobs).where(mine).values(lease_until=until)).rowcount:
                    wanted = c.execute(sa.select(jobs.c.wanted).where(jobs.c.id == fence.job_id)).scalar_one()
                    held[fence.job_id] = Wanted(wanted)
        return held

    def watch(self, claims: Sequence[Fence]) -> dict[int, Wanted]:
        """As `renew`, without holding anything for longer."""
        mine = {fence.job_id: fence.token for fence in claims}
        if not mine:
            return {}
        with self._db.read() as c:
            found = c.execute(sa.select(jobs.c.id, jobs.c.token, jobs.c.wanted).where(jobs.c.id.in_(mine)))
            return {row.id: Wanted(row.wanted) for row in found if row.token == mine[row.id]}

    def progress(self, fence: Fence, progress: Mapping[str, Any] | None = None) -> None:
        """Note that a job got on, and how far it is; its workers' deaths before this no longer count.

        Raises:
            JobLost: the job is another worker's.
        """
        told = None if progress is None else storable(progress)
        values: dict[str, Any] = {"attempts": 1} if told is None else {"attempts": 1, "progress": told}
        with self._db.write() as c:
            fence.check(c)
            c.execute(sa.update(jobs).where(jobs.c.id == fence.job_id).values(values))
            if told is not None:
                search = c.execute(sa.select(jobs.c.search_id).where(jobs.c.id == fence.job_id)).scalar()
                note(c, "job.progress", data=told, job_id=fence.job_id, search_id=search)

    def give_back(self, fence: Fence, *, wait_s: float = 0.0, spent: bool = False, error: str | None = None) -> None:
        """Queue a claimed job for the next worker; nothing if it is another's already.

        Args:
            fence: the claim.
            wait_s: before it may be claimed again.
            spent: whether this claim counts as an attempt.
            error: why it could not go on, if that is known.
        """
        with self._db.write() as c:
            try:
                fence.check(c)
            except JobLost:
                return
            job = self._one(c, fence.job_id)
            if job.wanted != Wanted.RUN:
                self._end(c, job, "paused" if job.wanted == Wanted.PAUSE else "cancelled")
                return
            later = self._db.now(c) + dt.timedelta(seconds=wait_s)
            values: dict[str, Any] = {
                "state": "queued",
                "worker": None,
                "token": None,
                "lease_until": None,
                "queued_at": later,
                "not_before": later if wait_s else None,
                "error": error_text(error),
            }
            if not spent:
                values["attempts"] = max(0, job.attempts - 1)
            c.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
            self._tell(c, self._one(c, job.id), {})

    def finish(
        self, fence: Fence, state: str, *, result: Mapping[str, Any] | None = None, error: str | None = None
    ) -> None:
        """End a claimed job: `complete`, `failed`, `cancelled`, or, a search, `paused`.

        Raises:
            JobLost: the job is another worker's.
        """
        with self._db.write() as c:
            fence.check(c)
            self._end(c, self._one(c, fence.job_id), state, result=result, error=error)

    # Parts -------------------------------------------------------------------------------------------------------

    def _one(self, connection: sa.Connection, job_id: int, *, lock: bool = False) -> JobRecord:
        query = sa.select(*_COLUMNS).where(jobs.c.id == job_id)
        row = connection.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise NotFound(f"no job {job_id}; `nas jobs list` shows what there is")
        return JobRecord(**row)

    def _called(self, connection: sa.Connection, job: JobRecord) -> str:
        """What its user knows it by."""
        if job.kind != "search" or job.search_id is None:
            return f"job {job.id}"
        name = connection.execute(sa.select(searches.c.name).where(searches.c.id == job.search_id)).scalar_one()
        return f"search {name!r}"

    def _end(
        self,
        connection: sa.Connection,
        job: JobRecord,
        state: str,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        error = error_text(error)
        values: dict[str, Any] = {"state": state, "error": error, "worker": None, "token": None, "lease_until": None}
        if result is not None:
            values["result"] = storable(result)
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(**values, finished_at=now()))
        self._tell(connection, self._one(connection, job.id), {"error": error})

    def _tell(self, connection: sa.Connection, job: JobRecord, data: Mapping[str, Any]) -> None:
        """Move the search along with its job, and write the event."""
        if job.kind == "search" and job.search_id is not None:
            over = None if job.state in ("queued", "running") else job.finished_at
            values = {"state": job.state, "error": job.error, "finished_at": over}
            connection.execute(sa.update(searches).where(searches.c.id == job.search_id).values(values))
            told = {"state": job.state, "error": job.error}
            note(connection, "search.state", search_id=job.search_id, job_id=job.id, data=told)
        told = {"kind": job.kind, "state": job.state, **data}
        note(connection, "job.state", search_id=job.search_id, job_id=job.id, data=told)
