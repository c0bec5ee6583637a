"""Fence: what a worker writes counts only while the job is its own."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from api.errors import JobLost
from api.store.models import jobs

_MINE = (
    sa.select(jobs.c.id)
    .where(jobs.c.id == sa.bindparam("job"), jobs.c.token == sa.bindparam("token"))
    .with_for_update(read=True)  # the claim cannot change before this transaction ends
)


@dataclass(frozen=True)
class Fence:
    """The claim on a job, checked in every transaction that writes for it.

    Attributes:
        job_id: the job.
        token: of the claim.
    """

    job_id: int
    token: str

    def check(self, connection: sa.Connection) -> None:
        """Make sure that the job is still this claim's.

        Raises:
            JobLost: another worker has it, or it was deleted.
        """
        if connection.execute(_MINE, {"job": self.job_id, "token": self.token}).first() is None:
            raise JobLost(f"job {self.job_id} is another worker's by now; what this one does no longer counts")
