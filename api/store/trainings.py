"""Final trainings of a search's networks and of the baselines beside them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from api.store.engine import Database
from api.store.models import now, trainings


@dataclass(frozen=True)
class TrainingRecord:
    """A network trained to the end with one seed; the columns of `api.store.models.trainings`."""

    id: int
    search_id: int
    key: str
    label: str
    trial: int | None
    space: dict[str, Any]
    encoding: str
    options: dict[str, Any]
    seed: int
    val_accuracy: float
    test_accuracy: float | None
    recall: dict[str, float] | None
    history: list[dict[str, float]]
    init: dict[str, Any] | None
    seconds: float
    created_at: dt.datetime


class TrainingStore:
    """The final trainings of all searches."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def save(self, search_id: int, key: str, facts: Mapping[str, Any]) -> None:
        """Keep a training's facts; of one that is known only those given change.

        A training that was only read again keeps the seconds it took.
        """
        same = (trainings.c.search_id == search_id) & (trainings.c.key == key)
        values = {**facts, "created_at": now()}
        with self._db.write() as c:
            known = c.execute(sa.select(trainings.c.history).where(same)).first()
            if known is None:
                c.execute(sa.insert(trainings).values(search_id=search_id, key=key, **values))
                return
            if known.history == values.get("history"):
                values.pop("seconds", None)
            c.execute(sa.update(trainings).where(same).values(**values))

    def of(self, search_id: int) -> list[TrainingRecord]:
        """A search's, in the order in which they were first kept."""
        query = sa.select(trainings).where(trainings.c.search_id == search_id).order_by(trainings.c.id)
        with self._db.read() as c:
            return [TrainingRecord(**row) for row in c.execute(query).mappings()]
