"""Where trials run: how many processes this machine gives a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.compose import run_search, store_search
from api.executors.choice import TrialExecutor
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.settings import Settings
from api.store import Store
from nas.executor import ProcessExecutor
from nas.spaces.recipe import SpaceSpec


def _spec(**others: Any) -> SearchSpec:
    space, options = SpaceSpec("mobilenetv2-small", (8,), 10, 1), {"data": "digits", "epochs": 1}
    return SearchSpec(space, evaluator="training", evaluator_options=options, **others)


@pytest.mark.parametrize(("processes", "parallel", "started"), [(2, 8, 2), (8, 2, 2), (None, 8, 8)])
def test_a_search_has_no_more_processes_than_the_machine_gives(
    tmp_path: Path, processes: int | None, parallel: int, started: int
) -> None:
    spec = _spec(parallel=parallel)
    with Store(Settings(tmp_path)) as store:
        choice = TrialExecutor(processes=processes)
        executor = choice.build(store, 1, build_plan(spec, None), spec.evaluator_options, tmp_path)
    assert isinstance(executor, ProcessExecutor)
    assert executor.capacity == started


@pytest.mark.slow
def test_trials_that_wait_for_a_process_are_those_that_do_not(tmp_path: Path) -> None:
    found: list[list[tuple[Any, ...]]] = []
    plan = build_plan(_spec(strategy="annealing", trials=5, parallel=3), None)
    with Store.open(Settings(tmp_path)) as store:
        for processes in (1, None):
            record = store_search(store, plan, board=None)
            run_search(store, record, executor=TrialExecutor(processes=processes))
            outputs = {p.name for p in store.settings.search_folder(record.id).glob("slot-*.log")}
            assert outputs == {f"slot-{i}.log" for i in range(processes or 3)}
            found.append([(t.number, t.encoding, t.state, t.accuracy) for t in store.searches.log(record.id).load()])
    assert found[0] == found[1]
