"""Records of the files that jobs made; the files themselves are `api.results.artifacts`'s."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from api.errors import NotFound
from api.store.engine import Database
from api.store.models import artifacts, jobs, now


@dataclass(frozen=True)
class ArtifactRecord:
    """A file that a job made; the columns of `api.store.models.artifacts`."""

    id: int
    job_id: int
    search_id: int | None
    name: str
    media_type: str
    size: int
    sha256: str
    created_at: dt.datetime


class ArtifactRecords:
    """What is known of the artifacts of all jobs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def save(self, job_id: int, name: str, media_type: str, *, size: int, sha256: str) -> ArtifactRecord:
        """List a file of a job; one of the same name is replaced and keeps its number."""
        same = (artifacts.c.job_id == job_id) & (artifacts.c.name == name)
        values = {"media_type": media_type, "size": size, "sha256": sha256, "created_at": now()}
        with self._db.write() as c:
            if not c.execute(sa.update(artifacts).where(same).values(values)).rowcount:
                search_id = c.execute(sa.select(jobs.c.search_id).where(jobs.c.id == job_id)).scalar()
                c.execute(sa.insert(artifacts).values(job_id=job_id, search_id=search_id, name=name, **values))
            return ArtifactRecord(**c.execute(sa.select(artifacts).where(same)).mappings().one())

    def get(self, artifact_id: int) -> ArtifactRecord:
        """The artifact of that number.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as c:
            row = c.execute(sa.select(artifacts).where(artifacts.c.id == artifact_id)).mappings().first()
        if row is None:
            raise NotFound(f"no artifact {artifact_id}")
        return ArtifactRecord(**row)

    def find(self, job_id: int, name: str) -> ArtifactRecord | None:
        """A job's artifact of that name, if it has one."""
        query = sa.select(artifacts).where(artifacts.c.job_id == job_id, artifacts.c.name == name)
        with self._db.read() as c:
            row = c.execute(query).mappings().first()
        return None if row is None else ArtifactRecord(**row)

    def page(
        self, *, job_id: int | None = None, search_id: int | None = None, after: int = 0, limit: int = 100
    ) -> list[ArtifactRecord]:
        """Artifacts of a job, of a search or of all, oldest first: at most `limit` with a number above `after`."""
        query = sa.select(artifacts).where(artifacts.c.id > after).order_by(artifacts.c.id).limit(limit)
        if job_id is not None:
            query = query.where(artifacts.c.job_id == job_id)
        if search_id is not None:
            query = query.where(artifacts.c.search_id == search_id)
        with self._db.read() as c:
            return [ArtifactRecord(**row) for row in c.execute(query).mappings()]

    def jobs_of(self, search_id: int) -> list[int]:
        """The jobs of a search that have artifacts."""
        query = sa.select(artifacts.c.job_id).where(artifacts.c.search_id == search_id).distinct()
        with self._db.read() as c:
            return list(c.execute(query).scalars())

    def forget(self, job_id: int) -> None:
        """Drop the records of a job."""
        with self._db.write() as c:
            c.execute(sa.delete(artifacts).where(artifacts.c.job_id == job_id))
