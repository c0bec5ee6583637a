"""Workers that are, or were lately, alive."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from api.store.engine import Database
from api.store.models import now, workers

ALIVE_S = 60.0
"""A worker tells that it lives several times within this."""
_FORGOTTEN = dt.timedelta(days=7)


@dataclass(frozen=True)
class WorkerRecord:
    """A worker; the columns of `api.store.models.workers`."""

    name: str
    host: str
    pid: int
    capacity: int
    executor: str
    started_at: dt.datetime
    seen_at: dt.datetime


class WorkerStore:
    """The workers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def seen(self, name: str, *, host: str, pid: int, capacity: int, executor: str) -> None:
        """Note that a worker lives; forget those not seen for a week."""
        with self._db.write() as c:
            moment = self._db.now(c)
            values = {"host": host, "pid": pid, "capacity": capacity, "executor": executor, "seen_at": moment}
            if not c.execute(sa.update(workers).where(workers.c.name == name).values(values)).rowcount:
                c.execute(sa.insert(workers).values(name=name, started_at=now(), **values))
                c.execute(sa.delete(workers).where(workers.c.seen_at < moment - _FORGOTTEN))

    def gone(self, name: str) -> None:
        """Forget a worker that ends."""
        with self._db.write() as c:
            c.execute(sa.delete(workers).where(workers.c.name == name))

    def all(self) -> list[WorkerRecord]:
        """Every known worker, by name."""
        with self._db.read() as c:
            return [WorkerRecord(**row) for row in c.execute(sa.select(workers).order_by(workers.c.name)).mappings()]

    def alive(self) -> list[WorkerRecord]:
        """Those seen within `ALIVE_S`."""
        with self._db.read() as c:
            since = self._db.now(c) - dt.timedelta(seconds=ALIVE_S)
            found = c.execute(sa.select(workers).where(workers.c.seen_at >= since).order_by(workers.c.name))
            return [WorkerRecord(**row) for row in found.mappings()]
