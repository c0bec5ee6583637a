from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.contracts import smooth_objective
from nas.errors import EvaluationError, SearchError
from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.executor import Executor, InlineExecutor, Task
from nas.executor import Report as ExecutorReport
from nas.search import Search, SearchResult, Stopped
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategies.uniform import Uniform
from nas.strategy import Beliefs, Strategy
from nas.trial import MemoryTrialLog, Trial, TrialState

MACRO = build_space("nas-bench-macro")
OBJECTIVE = smooth_objective(MACRO)
Attrs = dict[str, Any]


class Formula(Evaluator):
    """A smooth accuracy; some encodings fail, or all."""

    name = "formula"
    isolated = False

    def __init__(self, *, works: bool = True) -> None:
        self.works = works

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        accuracy = OBJECTIVE(np.array(architecture.encoding, dtype=np.uint8)) if self.works else None
        if accuracy is None:
            raise EvaluationError("cannot be judged")
        return Evaluation(accuracy)


class Late(Executor):
    """Several tasks in flight; the last one given ends first."""

    def __init__(self, capacity: int) -> None:
        self.inner, self.capacity, self.tasks = InlineExecutor(MACRO, Formula()), capacity, list[Task]()

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self, timeout_s: float) -> list[ExecutorReport]:
        self.inner.submit(self.tasks.pop())
        return self.inner.wait(timeout_s)

    def cancel(self, number: int) -> None: ...

    def stop(self, grace_s: float) -> list[ExecutorReport]:
        return []


class Sure(Uniform):
    """Says from the start how sure it will be before each trial; nothing before the first five."""

    def __init__(self, regret: dict[int, float]) -> None:
        super().__init__(MACRO, (), 3)
        self.regret, self.told = regret, 0

    def tell(self, trial: Trial) -> None:
        self.told += 1

    def attrs(self, number: int) -> Attrs:
        return {"recommended": 0, "expected_regret": self.regret[number]} if number in self.regret else {}

    def beliefs(self, number: int) -> Beliefs | None:
        return Beliefs(self.told, 0.5)


# On average over three trials: at most 0.1 with trials 10, 11 and 12, at most 0.05 with trials 20, 21 and 22. Trial 7
# was proposed in a moment of confidence.
REGRET = {n: 0.3 if n < 10 else 0.09 if n < 20 else 0.04 for n in range(5, 40)} | {7: 0.0}


def search(log: MemoryTrialLog, strategy: Strategy | None = None, **more: Any) -> SearchResult:
    parallel = more.pop("parallel", 1)
    executor = more.pop("executor", None) or Late(parallel)
    given: dict[str, Any] = {"trials": 30, "stop_when": 0.1, "workdir": Path("unused"), "seed": 5} | more
    return Search(MACRO, strategy or Sure(REGRET), executor, log, parallel=parallel, **given).run()


def plain(log: MemoryTrialLog) -> list[tuple[object, ...]]:
    return [(t.number, t.encoding, t.state, t.accuracy, t.attrs) for t in log.load()]


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_trial_is_begun_once_so_little_is_expected_and_those_in_flight_end(parallel: int) -> None:
    log = MemoryTrialLog()
    result = search(log, parallel=parallel)
    assert (result.stopped, result.trials) == (Stopped.SURE, 13)
    assert not any(t.state is TrialState.RUNNING for t in log.load())
    assert result.beliefs == Beliefs(13, 0.5)  # when all trials were told
    assert result.best is not None


def test_without_a_wish_or_without_beliefs_all_trials_are_made() -> None:
    for strategy, stop_when in ((Sure(REGRET), None), (Uniform(MACRO, (), 3), 0.1), (Sure(REGRET), 0.001)):
        result = search(MemoryTrialLog(), strategy, stop_when=stop_when)
        assert (result.stopped, result.trials) == (Stopped.DONE, 30)
    assert search(MemoryTrialLog(), Uniform(MACRO, (), 3)).beliefs is None


def test_a_search_continued_with_a_smaller_wish_goes_on() -> None:
    log = MemoryTrialLog()
    assert search(log).trials == 13
    result = search(log, stop_when=0.05)
    assert (result.stopped, result.trials) == (Stopped.SURE, 23)
    assert search(log, stop_when=0.05).trials == 23
    assert search(log, stop_when=None).trials == 30


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.lists(st.integers(0, 20), max_size=3))
def test_stopped_anywhere_it_ends_at_the_same_trial(parallel: int, stops: list[int]) -> None:
    straight, broken = MemoryTrialLog(), MemoryTrialLog()
    search(straight, parallel=parallel)
    for after in stops:
        count = iter(range(100))
        stop = lambda a=after, i=count: next(i) >= a  # noqa: E731
        search(broken, parallel=parallel, should_stop=stop)
    assert search(broken, parallel=parallel).stopped is Stopped.SURE
    assert plain(broken) == plain(straight)


def test_a_search_whose_trials_all_failed_says_so_however_sure_its_strategy_is() -> None:
    executor = InlineExecutor(MACRO, Formula(works=False))
    with pytest.raises(SearchError, match=r"all of the first 3 trials failed; the last because: cannot be judged"):
        search(MemoryTrialLog(), Sure(dict.fromkeys(range(3), 0.0)), executor=executor)


def test_guided_ends_when_it_is_sure_and_repeats_itself() -> None:
    logs = [MemoryTrialLog(), MemoryTrialLog()]
    results = [search(log, build_strategy("guided", MACRO, (), 1), trials=120, stop_when=0.004) for log in logs]
    assert plain(logs[0]) == plain(logs[1])
    for log, result in zip(logs, results, strict=True):
        assert result.stopped is Stopped.SURE
        trials = list(log.load())
        assert 10 < len(trials) < 120
        regrets = [t.attrs.get("expected_regret", math.inf) for t in trials]
        assert [n for n in range(2, len(trials)) if sum(regrets[n - 2 : n + 1]) / 3 <= 0.004] == [len(trials) - 1]
        assert result.beliefs is not None
        assert trials[result.beliefs.recommended].state is TrialState.COMPLETE
