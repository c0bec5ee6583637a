"""How long a search will take, by what trials of earlier searches took: asked before it begins, and nothing is run.

(`nas search --dry-run` times candidates instead, which takes minutes.)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from api.plans.plan import Plan
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.searches import SearchRecord
from nas.evaluators import find_evaluator
from nas.rungs import Rungs
from nas.trial import TrialState

_SEARCHES = 200  # the newest, that are looked at
_USED = 5  # of those most like the new one
_TRIALS = 400  # of each
_ENOUGH = 5  # trials that an interval can be told from
_UNKNOWN = "nothing like it has been searched here yet: its first trials will tell"


@dataclass(frozen=True)
class SearchEstimate:
    """What a search is expected to take.

    Attributes:
        seconds: all of it; None where nothing is known.
        trial_seconds: a trial that no rung stops.
        low_s: all of it, were every trial like the fastest tenth of those it is estimated from.
        high_s: likewise, like the slowest tenth; both None where those are too few, of other networks, or where another
            number of them ran at once.
        basis: where the numbers come from, one line.
    """

    seconds: float | None = None
    trial_seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    basis: str = _UNKNOWN


@dataclass(frozen=True)
class _Likeness:
    """In what an earlier search is like the new one; what matters most to the time comes first.

    Attributes:
        space: networks of the same space, resolution, channels and classes.
        options: of the evaluator, epochs among them.
        parallel: trials at once, which share a machine.
        budgets: the trials are as large.
    """

    space: bool
    options: bool
    parallel: bool
    budgets: bool

    @property
    def rank(self) -> tuple[bool, ...]:
        """The higher, the more alike."""
        return self.space, self.options, self.parallel, self.budgets


def estimate_search(store: Store, plan: Plan) -> SearchEstimate:
    """What a search will take, from the complete trials of the earlier searches most like it.

    They have the same evaluator and data; of them the nearest in space, options, trials at once and budgets count, the
    newest first. Trainings are scaled by their epochs. Of an evaluator that looks accuracies up, the time between
    the ends of two trials counts, with the same strategy: proposing takes longer than looking up.

    Args:
        store: has the earlier searches.
        plan: of the new one.
    """
    spec, trains = plan.spec, find_evaluator(plan.spec.evaluator).isolated
    found = [(_likeness(record, plan), record) for record in _earlier(store, spec, trains)]
    found.sort(key=lambda pair: pair[0].rank, reverse=True)  # stable: the newest first
    used: list[SearchRecord] = []
    seconds: list[float] = []
    best: _Likeness | None = None
    for likeness, record in found:
        if len(used) == _USED or (best is not None and likeness.rank != best.rank):
            break
        theirs = SearchSpec.from_dict(record.spec)
        if trains:
            of_it = [s * _epochs(spec) / _epochs(theirs) for s in _trial_seconds(store, record.id)]
        else:
            of_it = _gaps(store, record.id)
        if of_it:
            used, best = [*used, record], likeness
            seconds += of_it
    if best is None:
        return SearchEstimate()
    rounds = math.ceil(spec.trials / spec.parallel) * _share_trained(spec) if trains else spec.trials
    low, median, high = np.quantile(seconds, (0.1, 0.5, 0.9)).tolist()
    sure = best.space and (best.parallel or not trains) and len(seconds) >= _ENOUGH
    return SearchEstimate(
        rounds * median,
        median,
        rounds * low if sure else None,
        rounds * high if sure else None,
        _basis(spec, best, used, len(seconds), trains),
    )


def _earlier(store: Store, spec: SearchSpec, trains: bool) -> Iterator[SearchRecord]:
    """Searches with the same evaluator and data; where accuracies are looked up, with the same strategy."""
    for record in store.searches.page(limit=_SEARCHES):
        if record.spec["evaluator"] != spec.evaluator or not record.complete:
            continue
        options = record.spec["evaluator_options"]
        if options.get("data") == spec.data if trains else record.spec["strategy"] == spec.strategy:
            yield record


def _likeness(record: SearchRecord, plan: Plan) -> _Likeness:
    theirs, spec = record.spec, plan.spec
    return _Likeness(
        record.space_digest == plan.space.digest,
        theirs["evaluator_options"] == dict(spec.evaluator_options),
        theirs["parallel"] == spec.parallel,
        theirs["budgets"] == dict(spec.budgets),
    )


def _trial_seconds(store: Store, search_id: int) -> list[float]:
    found = store.trials.page(search_id, limit=_TRIALS, state=TrialState.COMPLETE)
    return [trial["seconds"] for trial in found]


def _gaps(store: Store, search_id: int) -> list[float]:
    """Seconds between the ends of trials that followed each other."""
    ends = [trial["finished_at"] for trial in store.trials.page(search_id, limit=_TRIALS, state=TrialState.COMPLETE)]
    return [(after - before).total_seconds() for before, after in pairwise(ends) if after >= before]


def _epochs(spec: SearchSpec) -> float:
    """Of a trial's training; 1 where its evaluator knows no epochs."""
    known = inspect.signature(find_evaluator(spec.evaluator)).parameters
    return float(_option(spec.evaluator_options, known, "epochs") or 1)


def _option(options: Mapping[str, Any], known: Mapping[str, inspect.Parameter], name: str) -> Any:
    if name in options:
        return options[name]
    return known[name].default if name in known else None


def _share_trained(spec: SearchSpec) -> float:
    """Which share of all epochs is trained, where at each rung the best 1/eta go on."""
    rungs, epochs = spec.build_rungs(), _epochs(spec)
    if not rungs.steps or epochs <= rungs.steps[-1]:
        return 1.0
    return _trained(rungs, epochs) / epochs


def _trained(rungs: Rungs, epochs: float) -> float:
    stretches = (after - before for before, after in pairwise((0, *rungs.steps, epochs)))
    return sum(stretch / rungs.eta**passed for passed, stretch in enumerate(stretches))


def _basis(spec: SearchSpec, best: _Likeness, used: Sequence[SearchRecord], trials: int, trains: bool) -> str:
    who = f"search {used[0].name}" if len(used) == 1 else f"{len(used)} searches, the newest {used[0].name}"
    if trains:
        said = [f"the median of {trials} trials of {who}, with the same data"]
    else:
        said = [f"the median time between {trials} trials of {who}, with the same strategy"]
    if not best.space:
        said.append("their networks are of another space or resolution, so it may be several times off")
    if trains and any(_epochs(SearchSpec.from_dict(r.spec)) != _epochs(spec) for r in used):
        said.append(f"scaled to {_epochs(spec):g} epochs")
    if trains and not best.parallel:
        at_once = sorted({r.spec["parallel"] for r in used})
        said.append(f"they ran {' or '.join(map(str, at_once))} at once, and {spec.parallel} may have to share cores")
    if _share_trained(spec) < 1:
        said.append("rungs stop what they are expected to")
    if spec.stop_when is not None:
        said.append("it may be sure of its result earlier")
    return "; ".join(said)
