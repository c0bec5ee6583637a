"""SqlTrialLog: the trial log of a search, one row a trial."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from api.errors import StoreError
from api.store.columns import rounded, shown_attrs
from api.store.engine import Database
from api.store.events import note
from api.store.fence import Fence
from api.store.models import now, searches, trials
from api.store.texts import error_text
from nas.trial import Trial, TrialState

_ROWS_AT_ONCE = 500
# Made once: building and recognising a statement costs SQLAlchemy more than running it.
_START = sa.insert(trials)
_FINISH = sa.update(trials).where(
    trials.c.search_id == sa.bindparam("of_search"),
    trials.c.number == sa.bindparam("of_number"),
    trials.c.state == TrialState.RUNNING.value,  # so that no trial is counted twice
)
_OF_SEARCH = sa.update(searches).where(searches.c.id == sa.bindparam("of_search"))
_COUNT_START = _OF_SEARCH.values(running=searches.c.running + 1)
_COUNT_END: dict[TrialState, sa.Update] = {
    state: _OF_SEARCH.values({"running": searches.c.running - 1, state.value: searches.c[state.value] + 1})
    for state in TrialState
    if state is not TrialState.RUNNING
}
_REWARD: sa.BindParameter[float] = sa.bindparam("reward", type_=sa.Double())
_NUMBER: sa.BindParameter[int] = sa.bindparam("number", type_=sa.BigInteger())
_BEST = _OF_SEARCH.where(
    sa.or_(
        searches.c.best_reward.is_(None),
        searches.c.best_reward < _REWARD,
        sa.and_(searches.c.best_reward == _REWARD, searches.c.best_number > _NUMBER),
    )
).values(best_reward=_REWARD, best_number=_NUMBER)


def trial_of(row: Mapping[Any, Any]) -> Trial:
    """A row of the trials table as a Trial."""
    return Trial(
        number=row["number"],
        encoding=tuple(map(int, row["encoding"].split(","))),
        state=TrialState(row["state"]),
        accuracy=row["accuracy"],
        reward=row["reward"],
        costs=row["costs"],
        seconds=row["seconds"],
        extras=row["extras"],
        attrs=row["attrs"],
        error=row["error"],
        stop_below=row["stop_below"],
    )


class SqlTrialLog:
    """A `nas.trial.TrialLog` in the store; every method has reached the disk when it returns."""

    def __init__(self, database: Database, search_id: int, fence: Fence | None = None) -> None:
        self._db, self._search, self._fence = database, search_id, fence

    def load(self) -> Iterator[Trial]:
        """All trials in number order, a few hundred rows in memory at a time."""
        query = sa.select(trials).where(trials.c.search_id == self._search).order_by(trials.c.number)
        with self._db.read() as c:
            for row in c.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).mappings():
                yield trial_of(row)

    def started(self, trial: Trial) -> None:
        """Record a running trial.

        Raises:
            StoreError: this number is recorded already.
        """
        key = {"search_id": self._search, "number": trial.number}
        settled = {"encoding": ",".join(map(str, trial.encoding)), "stop_below": dict(trial.stop_below)}
        values = {**settled, "started_at": now(), **_mutable(trial)}
        try:
            with self._db.write() as c:
                self._check(c)
                c.execute(_START, {**key, **values})
                c.execute(_COUNT_START, {"of_search": self._search})
                data = _proposal(trial, values["encoding"])
                note(c, "trial.started", search_id=self._search, trial=trial.number, data=data)
        except StoreError as e:
            if isinstance(e.__cause__, sa.exc.IntegrityError):
                raise StoreError(f"search {self._search}: trial {trial.number} was started twice") from e
            raise

    def finished(self, trial: Trial) -> None:
        """Replace a running trial by its completed, pruned or failed form.

        Raises:
            StoreError: it is not running.
        """
        with self._db.write() as c:
            self._check(c)
            key = {"of_search": self._search, "of_number": trial.number}
            moment = now()
            done = c.execute(_FINISH, {**key, "finished_at": moment, **_mutable(trial)})
            if done.rowcount != 1:
                raise StoreError(f"search {self._search}: trial {trial.number} is not running")
            self._count(c, trial)
            note(c, "trial.ended", search_id=self._search, trial=trial.number, data=_result(trial, moment))

    def _check(self, connection: sa.Connection) -> None:
        if self._fence is not None:
            self._fence.check(connection)

    def _count(self, connection: sa.Connection, trial: Trial) -> None:
        """The search's own row keeps the counts and its best trial; of equals the earliest is best."""
        connection.execute(_COUNT_END[trial.state], {"of_search": self._search})
        if trial.state is TrialState.COMPLETE and trial.reward is not None:
            found = {"of_search": self._search, "reward": trial.reward, "number": trial.number}
            connection.execute(_BEST, found)


def _proposal(trial: Trial, encoding: str) -> dict[str, Any]:
    """What the event of its start tells; short, since every trial leaves one. Numbers as in `ColumnStore.page`."""
    costs = dict(zip(trial.costs, rounded(trial.costs.values()), strict=True))
    return {"encoding": encoding, "costs": costs, "attrs": shown_attrs(trial.attrs)}


def _result(trial: Trial, moment: dt.datetime) -> dict[str, Any]:
    """What the event of its end tells. Not why it failed: that may be long, and the trial itself tells it."""
    (seconds,) = rounded([trial.seconds])
    ended = moment.isoformat(timespec="milliseconds")
    told = {"state": trial.state.value, "accuracy": trial.accuracy, "reward": trial.reward}
    return {**told, "seconds": seconds, "finished_at": ended}


def _mutable(trial: Trial) -> dict[str, Any]:
    return {
        "state": trial.state.value,
        "accuracy": trial.accuracy,
        "reward": trial.reward,
        "costs": dict(trial.costs),
        "seconds": trial.seconds,
        "extras": dict(trial.extras),
        "attrs": dict(trial.attrs),
        "error": error_text(trial.error),
    }
