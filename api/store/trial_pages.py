"""Trials to read: pages in number order or the best first, single ones, and the outcomes of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from api.errors import NotFound
from api.store.engine import Database
from api.store.models import trials
from nas.space import Encodings
from nas.trial import TrialState

_of = trials.c
_LISTED = (
    *(_of.number, _of.encoding, _of.state, _of.accuracy, _of.reward, _of.costs),
    *(_of.seconds, _of.error, _of.started_at, _of.finished_at),
)  # what no list shows may be long: extras hold whole training histories
_WHOLE = (*_LISTED, _of.extras, _of.stop_below)


class Rank(NamedTuple):
    """Where a page of the best trials ended: of its last one."""

    reward: float
    number: int


@dataclass(frozen=True)
class Outcomes:
    """The complete trials of a search in number order.

    Attributes:
        numbers: (n,).
        encodings: (n, genes).
        accuracies: (n,).
    """

    numbers: NDArray[np.int64]
    encodings: Encodings
    accuracies: NDArray[np.float64]


class TrialPages:
    """Reads trials; none of its methods looks at more of them than it returns, `outcomes` aside."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def page(
        self, search_id: int, *, after: int = -1, limit: int = 100, state: TrialState | None = None
    ) -> list[dict[str, Any]]:
        """Trials with a number above `after`, in number order; of one state if named."""
        query = sa.select(*_LISTED).where(_of.search_id == search_id, _of.number > after)
        if state is not None:
            query = query.where(_of.state == state.value)
        return self._rows(query.order_by(_of.number).limit(limit))

    def best(
        self,
        search_id: int,
        *,
        after: Rank | None = None,
        limit: int = 100,
        state: TrialState = TrialState.COMPLETE,
    ) -> list[dict[str, Any]]:
        """Trials of one state that have a reward, the highest first, those behind `after`; the earlier wins a tie."""
        query = sa.select(*_LISTED).where(_of.search_id == search_id, _of.state == state.value, _of.reward.is_not(None))
        if after is not None:
            # The first condition is where the index is entered.
            query = query.where(
                _of.reward <= after.reward, sa.or_(_of.reward < after.reward, _of.number > after.number)
            )
        return self._rows(query.order_by(_of.reward.desc(), _of.number).limit(limit))

    def one(self, search_id: int, number: int) -> dict[str, Any]:
        """A trial with its extras.

        Raises:
            NotFound: there is none.
        """
        found = self._rows(sa.select(*_WHOLE).where(_of.search_id == search_id, _of.number == number))
        if not found:
            raise NotFound(f"search {search_id} has no trial {number}")
        return found[0]

    def outcomes(self, search_id: int) -> Outcomes:
        """Encodings and accuracies of the complete trials."""
        query = sa.select(_of.number, _of.encoding, _of.accuracy).where(
            _of.search_id == search_id, _of.state == TrialState.COMPLETE.value
        )
        with self._db.read() as c:
            rows: Sequence[Any] = c.execute(query.order_by(_of.number)).all()
        flat = np.fromstring(",".join(row.encoding for row in rows), dtype=np.uint8, sep=",")
        return Outcomes(
            np.array([row.number for row in rows], dtype=np.int64),
            flat.reshape(len(rows), -1) if rows else np.zeros((0, 0), dtype=np.uint8),
            np.array([row.accuracy or 0.0 for row in rows], dtype=np.float64),
        )

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self._db.read() as c:
            return [dict(row) for row in c.execute(query).mappings()]
