"""Starting a search from an earlier one: which trials it has, and what they are worth here."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from api.errors import Conflict, OptionError, StoreError
from api.plans.spec import SearchSpec
from api.store import Store
from nas.cost import CostModel
from nas.space import SearchSpace
from nas.trial import Trial, TrialState

DELETED = 0
"""In the place of the number of an earlier search that is gone: numbers may be used again."""


def pin_earlier(store: Store, name: str, space: SearchSpace) -> dict[str, int]:
    """`SearchSpec.earlier` for the search `name` as it is now: its first trials, up to one that still runs.

    Raises:
        OptionError: it searched another space, or has no trial with an accuracy yet.
    """
    record = store.searches.get(name)
    if record.space_digest != space.digest:
        raise OptionError(
            f"search {record.name!r} searched another space ({record.space}): its encodings mean other networks here; "
            "start from a search of the same space, resolution and classes"
        )
    known = [t.accuracy is not None for t in itertools.takewhile(_finished, store.searches.log(record.id).load())]
    if not any(known):
        raise OptionError(
            f"search {record.name!r} has no trial with an accuracy to start from; run it first: "
            f"nas search --resume {record.name}"
        )
    return {"search": record.id, "trials": len(known)}


def earlier_trials(store: Store, spec: SearchSpec) -> list[Trial]:
    """The finished trials a search starts from; none where it starts from nothing.

    Raises:
        Conflict: their search was deleted.
        StoreError: they are not there.
    """
    if spec.earlier is None:
        return []
    search, count = spec.earlier["search"], spec.earlier["trials"]
    if search == DELETED:
        raise Conflict("the search that this one starts from was deleted, so it cannot go on; begin another one")
    found = list(itertools.islice(store.searches.log(search).load(), count))
    if len(found) != count:
        raise StoreError(f"of search {search}, which this one starts from, {len(found)} of {count} trials are there")
    return found


def revalue(trials: Sequence[Trial], spec: SearchSpec, costs: Mapping[str, CostModel]) -> list[Trial]:
    """An earlier search's trials with the costs and rewards they have in this one: its board or reward may differ."""
    if not trials:
        return []
    rows = np.array([t.encoding for t in trials], dtype=np.uint8)
    prices = {metric: model(rows).tolist() for metric, model in costs.items()}
    reward, found = spec.build_reward(), []
    for i, trial in enumerate(trials):
        here = {metric: values[i] for metric, values in prices.items()}
        worth = None if trial.accuracy is None else reward(trial.accuracy, here)
        found.append(dataclasses.replace(trial, costs=here, reward=worth))
    return found


def _finished(trial: Trial) -> bool:
    return trial.state is not TrialState.RUNNING
