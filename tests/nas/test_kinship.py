from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.evaluators.training import TrainingEvaluator
from nas.executor import InlineExecutor
from nas.kinship import Parents
from nas.search import Search
from nas.space import SearchSpace
from nas.strategies.uniform import Uniform
from nas.trial import MemoryTrialLog, Trial, TrialState

ROWS = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=12)


@settings(max_examples=60)
@given(ROWS, st.tuples(*[st.integers(0, 2)] * 4))
def test_the_parent_is_the_nearest_then_the_best_then_the_first(
    rows: list[tuple[int, ...]], child: tuple[int, ...]
) -> None:
    accuracies = [(7 * i % 5) / 5 for i in range(len(rows))]
    parents = Parents()
    for i, row in enumerate(rows):
        parents.tell(Trial(i, row, TrialState.COMPLETE, accuracies[i], accuracies[i]))

    def rank(i: int) -> tuple[int, float, int]:
        return sum(a != b for a, b in zip(rows[i], child, strict=True)), -accuracies[i], i

    assert parents.of(child) == min(range(len(rows)), key=rank)


def test_only_finished_trainings_are_parents() -> None:
    parents = Parents()
    parents.tell(Trial(0, (0,), TrialState.FAILED))
    parents.tell(Trial(1, (0,), TrialState.PRUNED, 0.9, 0.9))
    assert parents.of((0,)) is None


class _Family(Evaluator):
    """Tells whose child it was."""

    name = "family"
    isolated = False

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        told = None if architecture.parent is None else architecture.parent.name
        return Evaluation(0.1 + sum(architecture.encoding) / 1000, {"told": told})


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_a_killed_search_finds_the_same_parents(space: SearchSpace, tmp_path: Path, parallel: int) -> None:
    def searched(log: MemoryTrialLog, trials: int) -> list[Trial]:
        executor = InlineExecutor(space, _Family())
        Search(
            space,
            Uniform(space, (), 3),
            executor,
            log,
            trials=trials,
            workdir=tmp_path,
            parallel=parallel,
            inherit=True,
        ).run()
        return list(log.load())

    whole = searched(MemoryTrialLog(), 12)
    assert [t.extras.get("parent") is None for t in whole] == [n < parallel for n in range(12)]
    for t in whole[parallel:]:
        assert t.extras["told"] == str(t.extras["parent"])
        assert t.extras["parent"] <= t.number - parallel
    for cut in (1, 4, 7):
        started = [Trial(t.number, t.encoding, costs=t.costs, attrs=t.attrs, extras=_at_start(t)) for t in whole]
        running = started[cut : cut + parallel]  # as a kill leaves it
        log = MemoryTrialLog([*whole[:cut], *running])
        assert [(t.encoding, t.extras) for t in searched(log, 12)] == [(t.encoding, t.extras) for t in whole]


def _at_start(trial: Trial) -> dict[str, int]:
    return {"parent": trial.extras["parent"]} if "parent" in trial.extras else {}


def test_a_child_starts_from_its_parents_weights(space: SearchSpace, data: str, tmp_path: Path) -> None:
    evaluator = TrainingEvaluator(data=data, epochs=2, batch=16, device="cpu", inherit=True)
    log = MemoryTrialLog()
    executor = InlineExecutor(space, evaluator)
    Search(space, Uniform(space, (), 3), executor, log, trials=3, workdir=tmp_path, inherit=True).run()
    first, *later = log.load()
    assert "init" not in first.extras
    for trial in later:
        assert trial.extras["init"]["share"] > 0
    assert np.isfinite([t.accuracy for t in later]).all()
