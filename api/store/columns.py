"""Trials as columns: what charts and tables of a whole search are drawn from."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import sqlalchemy as sa
from pydantic_core import from_json

from api.store.engine import Database
from api.store.models import trials
from nas.trial import TrialState

ATTRS = ("temperature", "chain", "base", "expected_regret", "recommended")
"""Of a strategy's attributes those that are shown, all numbers; others, e.g. a sampler's memory, may be long."""
STATES = tuple(state.value for state in TrialState)
_DIGITS = 7
_EXACT = 2.0**53  # up to here a float holds every whole number
_TENS = np.array([float(10**k) for k in range(23)])  # powers beyond are not exact
_of = trials.c
# JSON as text, since thousands of small documents are parsed soonest as one.
_PLAIN = (
    *(_of.number, _of.state, _of.accuracy, _of.reward, _of.seconds, _of.finished_at),
    *(sa.cast(_of.costs, sa.Text), sa.cast(_of.attrs, sa.Text)),
)
_RANKED = (
    sa.select(
        *(_of.number, _of.accuracy, _of.reward, _of.finished_at),
        sa.func.max(_of.reward).over(order_by=_of.number, rows=(None, -1)).label("before"),
    )
    .where(_of.search_id == sa.bindparam("of_search"), _of.state == TrialState.COMPLETE.value, _of.reward.is_not(None))
    .subquery()
)
_IMPROVEMENTS = (
    sa.select(_RANKED.c.number, _RANKED.c.accuracy, _RANKED.c.reward, _RANKED.c.finished_at)
    .where(sa.or_(_RANKED.c.before.is_(None), _RANKED.c.reward > _RANKED.c.before))
    .order_by(_RANKED.c.number)
)


class ColumnStore:
    """Reads many trials at once, each part of them as one list."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def page(
        self, search_id: int, since: dt.datetime, *, after: int = -1, limit: int = 20_000, encodings: bool = False
    ) -> dict[str, Any]:
        """Trials with a number above `after`, in number order.

        Args:
            search_id: theirs.
            since: when `finished_s` begins.
            after: a number.
            limit: trials at most.
            encodings: whether they are told, too.

        Returns:
            JSON of `api.schemas.columns.ColumnsOut` but for `event`, `began_at` and `states`.
        """
        selected = (*_PLAIN, _of.encoding) if encodings else _PLAIN
        query = sa.select(*selected).where(_of.search_id == search_id, _of.number > after)
        with self._db.read() as c:
            rows = c.execute(query.order_by(_of.number).limit(limit + 1)).all()
        parts: Sequence[Sequence[Any]] = list(zip(*rows[:limit], strict=True)) or [()] * len(selected)
        number, state, accuracy, reward, seconds, finished, costs, attrs = parts[:8]
        place = {name: i for i, name in enumerate(STATES)}
        priced, noted = _documents(costs), _documents(attrs)
        there = set(chain.from_iterable(noted))
        return {
            "next": number[-1] if len(rows) > limit else None,
            "number": number,
            "state": [place[name] for name in state],
            # As they are: rounded, ties and who is best would come out differently here and elsewhere.
            "accuracy": accuracy,
            "reward": reward,
            "seconds": rounded(seconds),
            "finished_s": [seconds_between(since, moment) for moment in finished],
            "costs": {
                metric: rounded([cost.get(metric) for cost in priced])
                for metric in dict.fromkeys(chain.from_iterable(priced))
            },
            "attrs": {name: rounded([told.get(name) for told in noted]) for name in ATTRS if name in there},
            "encoding": parts[8] if encodings else None,
        }

    def improvements(self, search_id: int, since: dt.datetime) -> list[dict[str, Any]]:
        """The complete trials whose reward is above that of all complete ones of lower number, in number order.

        Args:
            search_id: theirs.
            since: when `finished_s` begins.
        """
        with self._db.read() as c:
            found = c.execute(_IMPROVEMENTS, {"of_search": search_id}).all()
        return [
            {"number": n, "accuracy": a, "reward": r, "finished_s": seconds_between(since, moment)}
            for n, a, r, moment in found
        ]


def seconds_between(since: dt.datetime, moment: dt.datetime | None) -> float | None:
    """To the millisecond; None while the moment has not come."""
    return None if moment is None else round((moment - since).total_seconds(), 3)


def rounded(values: Iterable[Any]) -> list[float | None]:
    """To 7 significant digits, which is half the bytes; whole numbers stay, what is no finite number becomes None."""
    # Strategies, whose attributes these may be, are anybody's.
    x = np.array([v if isinstance(v, (int, float)) else np.nan for v in values], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        decimals = _DIGITS - 1 - np.floor(np.log10(np.abs(x)))
    finite, whole = np.isfinite(x), (x == np.trunc(x)) & (np.abs(x) < _EXACT)
    kept = ~finite | whole | (decimals >= len(_TENS))
    scale = _TENS[np.where(kept, 0, np.maximum(decimals, 0)).astype(np.intp)]
    near = np.where(kept, x, np.rint(x * scale) / scale)
    told: list[float | None] = near.tolist()
    if (whole | ~finite).all():
        told = np.where(finite, x, 0).astype(np.int64).tolist()  # written in fewer bytes
    return told if finite.all() else [v if known else None for v, known in zip(told, finite.tolist(), strict=True)]


def shown_attrs(attrs: Mapping[str, Any]) -> dict[str, float | None]:
    """Of a strategy's attributes those that are shown, as `ColumnStore.page` tells them."""
    names = [name for name in ATTRS if name in attrs]
    return dict(zip(names, rounded(attrs[name] for name in names), strict=True))


def _documents(texts: Sequence[str]) -> list[dict[str, Any]]:
    text = f"[{','.join(texts)}]"
    try:
        found: list[dict[str, Any]] = from_json(text)
    except ValueError:  # half a surrogate pair, in what some strategy noted
        found = json.loads(text)
    return found
