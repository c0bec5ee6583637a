"""SqlTrialLog: the trial log of a search, one row a trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from api.errors import StoreError
from api.models import now, trials
from api.store.engine import Database
from nas.trial import Trial, TrialState

_ROWS_AT_ONCE = 500
# Made once: building and recognising a statement costs SQLAlchemy more than running it.
_START = sa.insert(trials)
_FINISH = sa.update(trials).where(
    trials.c.search_id == sa.bindparam("of_search"), trials.c.number == sa.bindparam("of_number")
)


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

    def __init__(self, database: Database, search_id: int) -> None:
        self._db, self._search = database, search_id

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
                c.execute(_START, {**key, **values})
        except StoreError as e:
            if isinstance(e.__cause__, sa.exc.IntegrityError):
                raise StoreError(f"search {self._search}: trial {trial.number} was started twice") from e
            raise

    def finished(self, trial: Trial) -> None:
        """Replace a running trial by its completed, pruned or failed form.

        Raises:
            StoreError: it was never started.
        """
        with self._db.write() as c:
            key = {"of_search": self._search, "of_number": trial.number}
            done = c.execute(_FINISH, {**key, "finished_at": now(), **_mutable(trial)})
            if done.rowcount != 1:
                raise StoreError(f"search {self._search}: trial {trial.number} was never started")


def _mutable(trial: Trial) -> dict[str, Any]:
    return {
        "state": trial.state.value,
        "accuracy": trial.accuracy,
        "reward": trial.reward,
        "costs": dict(trial.costs),
        "seconds": trial.seconds,
        "extras": dict(trial.extras),
        "attrs": dict(trial.attrs),
        "error": _text(trial.error),
    }


def _text(text: str | None) -> str | None:
    """What every database stores: PostgreSQL takes neither NUL nor half a surrogate pair."""
    return None if text is None else text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
