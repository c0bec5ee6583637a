"""Overviews of searches: what a list of them shows, in one query that reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from api.store.engine import Database
from api.store.models import searches, trials
from nas.trial import TrialState

_OWN = ("id", "name", "state", "owner", "space", "board", "table_digest", "error", "created_at", "finished_at")
_OF_BEST = ("number", "encoding", "accuracy", "reward", "costs")
_STATES = [state.value for state in TrialState]
_QUERY = sa.select(
    *(searches.c[name] for name in _OWN),
    *(searches.c[state].label(f"in_{state}") for state in _STATES),
    searches.c.spec["trials"].as_integer().label("wanted"),
    searches.c.spec["budgets"].as_json().label("budgets"),
    *(searches.c.spec[name].as_string().label(name) for name in ("strategy", "evaluator")),
    *(trials.c[name].label(f"best_{name}") for name in _OF_BEST),
).outerjoin(trials, sa.and_(trials.c.search_id == searches.c.id, trials.c.number == searches.c.best_number))
_LATEST = 32
"""Trials that a pace is taken from."""


class OverviewStore:
    """What lists and pages of searches show."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def page(
        self,
        *,
        after: int | None = None,
        limit: int = 100,
        oldest_first: bool = False,
        filters: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Searches, newest first; arguments as of `SearchStore.page`, and the filter `named`: the whole name."""
        number = searches.c.id
        query = _QUERY.order_by(number if oldest_first else number.desc()).limit(limit)
        if after is not None:
            query = query.where(number > after if oldest_first else number < after)
        for column, value in (filters or {}).items():
            if column == "name":
                query = query.where(searches.c.name.icontains(value, autoescape=True))
            else:
                query = query.where(searches.c["name" if column == "named" else column] == value)
        with self._db.read() as c:
            return [_overview(row) for row in c.execute(query).mappings()]

    def of(self, search_id: int) -> dict[str, Any]:
        """One search, which is there."""
        with self._db.read() as c:
            return _overview(c.execute(_QUERY.where(searches.c.id == search_id)).mappings().one())

    def trials_per_s(self, search_id: int) -> float | None:
        """How many trials ended per second, of the latest ones; None where that cannot be told."""
        latest = (
            sa.select(trials.c.finished_at)
            .where(trials.c.search_id == search_id)
            .order_by(trials.c.number.desc())
            .limit(2 * _LATEST)
        )
        with self._db.read() as c:
            ends = sorted(end for end in c.execute(latest).scalars() if end is not None)[-_LATEST:]
        seconds = (ends[-1] - ends[0]).total_seconds() if ends else 0.0
        return (len(ends) - 1) / seconds if seconds > 0 else None


def _overview(row: Mapping[Any, Any]) -> dict[str, Any]:
    best = None if row["best_number"] is None else {name: row[f"best_{name}"] for name in _OF_BEST}
    return {
        **{name: row[name] for name in (*_OWN, "wanted", "budgets", "strategy", "evaluator")},
        "trials": {state: row[f"in_{state}"] for state in _STATES},
        "best": best,
    }
