from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.contracts import smooth_objective
from nas.errors import EvaluationError, SearchError
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report
from nas.executor import Executor, InlineExecutor, Outcome, Task
from nas.executor import Report as ExecutorReport
from nas.rungs import Climb, Ladder, Rungs
from nas.search import Search, Stopped
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.trial import MemoryTrialLog, Trial, TrialState

MACRO = build_space("nas-bench-macro")
RUNGS = Rungs((1, 2), eta=2.0)
STEPS = 4
OBJECTIVE = smooth_objective(MACRO)


class Killed(BaseException):
    """What SIGKILL is to a process: nothing catches it."""


def never(point: tuple[object, ...]) -> None:
    """No bomb."""


class Bomb:
    """Kills once at each point it meets, so that a search begun again and again is killed everywhere."""

    def __init__(self) -> None:
        self.points: set[tuple[object, ...]] = set()

    def __call__(self, point: tuple[object, ...]) -> None:
        if point not in self.points:
            self.points.add(point)
            raise Killed


class Stepped(Evaluator):
    """A smooth accuracy in noisy steps; some encodings fail at the third. Checkpoints outlive it."""

    name = "stepped"
    isolated = False
    steps = STEPS

    def __init__(self, bomb: Callable[[tuple[object, ...]], None] = never) -> None:
        self.bomb, self.checkpoints = bomb, dict[str, list[float]]()

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        history, accuracy = self.checkpoints.setdefault(workdir.name, []), OBJECTIVE(MACRO.row(architecture.encoding))
        for step, value in enumerate(history, 1):
            report(Progress(step, STEPS, {"val_accuracy": value}))
        for step in range(len(history) + 1, STEPS + 1):
            self.bomb((workdir.name, step, "training"))
            if step == 3 and accuracy is None:
                raise EvaluationError("cannot be judged")
            noise = np.random.default_rng([seed, step]).normal(0, 0.3 / step)
            history.append(float(np.clip((accuracy or 0.5) + noise, 0, 1)))
            self.bomb((workdir.name, step, "checkpoint saved, nothing decided"))
            report(Progress(step, STEPS, {"val_accuracy": history[-1]}))
        return Evaluation(history[-1], {"history": list(history)})


class BombLog(MemoryTrialLog):
    bomb: Callable[[tuple[object, ...]], None] = staticmethod(never)

    def started(self, trial: Trial) -> None:
        self.bomb((trial.number, "before the start"))
        super().started(replace(trial, stop_below=json.loads(json.dumps(trial.stop_below))))
        self.bomb((trial.number, "after the start"))

    def finished(self, trial: Trial) -> None:
        self.bomb((trial.number, "before the end"))
        super().finished(replace(trial, seconds=0.0))
        self.bomb((trial.number, "after the end"))


class Shuffled(Executor):
    """Evaluates in a random order; told late."""

    def __init__(self, evaluator: Evaluator, capacity: int, seed: int) -> None:
        self.inner, self.capacity, self.order = InlineExecutor(MACRO, evaluator), capacity, random.Random(seed)
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self, timeout_s: float) -> list[ExecutorReport]:
        self.inner.submit(self.tasks.pop(self.order.randrange(len(self.tasks))))
        return self.inner.wait(timeout_s)

    def cancel(self, number: int) -> None: ...

    def stop(self, grace_s: float) -> list[ExecutorReport]:
        return []


def search(log: MemoryTrialLog, executor: Executor, name: str = "annealing", parallel: int = 1, **more: Any) -> Search:
    given = {"trials": 14, "seed": 5, "rungs": RUNGS, "workdir": Path("unused"), "parallel": parallel} | more
    return Search(MACRO, build_strategy(name, MACRO, (), 5), executor, log, **given)


def plain(log: MemoryTrialLog) -> list[dict[str, Any]]:
    return [asdict(replace(t, seconds=0.0)) for t in log.load()]


def straight(name: str, parallel: int, **more: Any) -> MemoryTrialLog:
    log = MemoryTrialLog()
    search(log, InlineExecutor(MACRO, Stepped()), name, parallel, **more).run()
    return log


def trial(number: int, reached: dict[str, float]) -> Trial:
    return Trial(number, (0,)).complete(0.5, 0.5, 0.0, {"rungs": reached})


# Thresholds ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), max_size=40), st.sampled_from([1.5, 2.0, 2.5, 3.0, 4.0]) | st.floats(1.01, 9))
def test_a_threshold_is_the_quantile_of_the_values_known(hits: list[int], eta: float) -> None:
    ladder, values = Ladder(Rungs((2,), eta)), [h / 40 for h in hits]
    for n, value in enumerate(values):
        ladder.tell(trial(n, {"2": value}))
    (found,) = ladder.stop_below().values()
    if len(values) < math.ceil(eta):
        assert found is None
    else:
        assert found == pytest.approx(np.quantile(values, 1 - 1 / eta), abs=1e-12)
        assert min(values) <= found <= max(values)


@pytest.mark.parametrize(("eta", "count", "place"), [(3.0, 4, 2), (3.0, 7, 4), (3.0, 301, 200), (2.5, 6, 3)])
def test_a_tie_with_the_threshold_goes_on(eta: float, count: int, place: int) -> None:
    values = [0.1 + i / 360 for i in range(count)]
    ladder = Ladder(Rungs((1,), eta))
    for n, value in enumerate(values):
        ladder.tell(trial(n, {"1": value}))
    assert ladder.stop_below() == {"1": values[place]}
    climb = Climb(ladder.stop_below(), "x")
    climb.hear(Progress(1, 9, {"val_accuracy": values[place]}))
    assert climb.stopped_at is None


def test_thresholds_come_from_exactly_the_trials_a_proposal_may_know() -> None:
    for parallel in (1, 3):
        trials = list(straight("random", parallel, trials=40).load())
        assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED}
        for t in trials:
            known = trials[: max(t.number - parallel + 1, 0)]
            for step in RUNGS.steps:
                values = [k.extras["rungs"][str(step)] for k in known if str(step) in k.extras.get("rungs", {})]
                expected = np.quantile(values, 1 - 1 / RUNGS.eta) if len(values) >= 2 else None
                assert t.stop_below[str(step)] == (None if expected is None else pytest.approx(expected))


def test_a_pruned_trial_keeps_what_it_reached_and_is_never_the_best() -> None:
    log = MemoryTrialLog()
    result = search(log, InlineExecutor(MACRO, Stepped()), "random", trials=40).run()
    trials = list(log.load())
    pruned = [t for t in trials if t.state is TrialState.PRUNED]
    assert {t.pruned_at for t in pruned} == {1, 2}
    for t in pruned:
        reached = t.extras["rungs"]
        assert list(reached) == [str(s) for s in RUNGS.steps if s <= (t.pruned_at or 0)]
        assert t.accuracy == t.reward == reached[str(t.pruned_at)]
        assert t.accuracy < (t.stop_below[str(t.pruned_at)] or 0)
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    for t in complete:
        assert t.pruned_at is None
        assert all(t.extras["rungs"][step] >= (limit or 0) for step, limit in t.stop_below.items())
    assert result.best == max(complete, key=lambda t: (t.reward or 0.0, -t.number))
    assert max(t.accuracy or 0 for t in pruned) > min(t.accuracy or 0 for t in complete)
    counts = (len(complete), len(pruned), len(trials) - len(complete) - len(pruned))
    assert (result.complete, result.pruned, result.failed) == counts


def test_a_trial_that_goes_on_is_what_it_is_without_rungs() -> None:
    free, runged = straight("random", 1, rungs=None, trials=30), straight("random", 1, trials=30)
    pairs = list(zip(free.load(), runged.load(), strict=True))
    assert all(a.encoding == b.encoding for a, b in pairs)
    for a, b in pairs:
        assert (a.stop_below, "rungs" in a.extras) == ({}, False)
        if b.state is TrialState.COMPLETE:
            assert (a.accuracy, a.extras["history"]) == (b.accuracy, b.extras["history"])
        elif a.state is TrialState.COMPLETE and b.pruned_at is not None:
            assert a.extras["history"][b.pruned_at - 1] == b.accuracy


# Exactness -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(["guided", "annealing", "random", "tpe", "nsga2"]), st.integers(1, 3), st.integers(0, 2**32))
def test_whatever_order_trials_end_in_the_trials_are_the_same(name: str, parallel: int, order: int) -> None:
    shuffled = MemoryTrialLog()
    search(shuffled, Shuffled(Stepped(), parallel, order), name, parallel).run()
    assert plain(shuffled) == plain(straight(name, parallel))


@pytest.mark.parametrize("parallel", [1, 2, 3])
@pytest.mark.parametrize("name", ["guided", "annealing", "tpe"])
def test_killed_at_every_point_it_goes_on_the_same(name: str, parallel: int) -> None:
    trials = 10 if name == "annealing" else 16  # guided fits its first model after 6, TPE after 10
    log, bomb, evaluator = BombLog(), Bomb(), Stepped()
    log.bomb = evaluator.bomb = bomb
    while True:
        try:
            executor = Shuffled(evaluator, parallel, len(bomb.points))
            stopped = search(log, executor, name, parallel, trials=trials).run().stopped
        except Killed:
            continue
        break
    assert stopped is Stopped.DONE
    calm = straight(name, parallel, trials=trials)
    assert plain(log) == plain(calm)
    assert len(bomb.points) > 4 * trials + 2 * sum(len(t.extras.get("history", ())) for t in calm.load())
    assert any(t.state is TrialState.PRUNED for t in calm.load())


def test_annealing_takes_a_pruned_trial_for_a_failed_one() -> None:
    def proposals(end: Callable[[Trial, float], Trial]) -> list[tuple[int, ...]]:
        strategy, made = build_strategy("annealing", MACRO, (), 5), list[tuple[int, ...]]()
        for n in range(25):
            row = strategy.ask(n)
            made.append(tuple(row.tolist()))
            asked, accuracy = Trial(n, made[-1]), OBJECTIVE(row) or 0.1
            strategy.tell(end(asked, accuracy) if n % 2 else asked.complete(accuracy, accuracy, 0.0, {}))
        return made

    failed = proposals(lambda asked, accuracy: asked.failed("x", 0.0))
    assert proposals(lambda asked, accuracy: asked.pruned(accuracy, accuracy, 1, 0.0, {})) == failed
    assert proposals(lambda asked, accuracy: asked.complete(accuracy, accuracy, 0.0, {})) != failed


# One evaluation ------------------------------------------------------------------------------------------------------


class Told(Evaluator):
    """Reports what it is given."""

    name = "told"
    isolated = False
    steps = 3

    def __init__(self, *reports: tuple[int, dict[str, float]]) -> None:
        self.reports, self.heard = reports, list[int]()

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        for step, metrics in self.reports:
            report(Progress(step, 3, metrics))
            self.heard.append(step)
        return Evaluation(0.9, {"kept": 1})


class Careless(Told):
    """Takes every exception for a failure of its own."""

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        try:
            return super().evaluate(architecture, seed=seed, workdir=workdir, report=report)
        except Exception:
            return Evaluation(0.0)


def judge(evaluator: Evaluator, stop_below: dict[str, float | None]) -> Outcome:
    executor = InlineExecutor(MACRO, evaluator)
    executor.submit(Task(0, (0,) * 8, 3, Path("unused"), stop_below))
    outcome = executor.wait(1.0)[-1]
    assert isinstance(outcome, Outcome)
    return outcome


def at(*accuracies: float) -> list[tuple[int, dict[str, float]]]:
    return [(step, {"val_accuracy": accuracy}) for step, accuracy in enumerate(accuracies, 1)]


def test_an_evaluation_ends_at_the_rung_it_fails() -> None:
    evaluator = Told(*at(0.5, 0.6, 0.9))
    outcome = judge(evaluator, {"1": None, "2": 0.61})
    assert outcome.result == Evaluation(0.6, {"rungs": {"1": 0.5, "2": 0.6}})
    assert (outcome.pruned_at, evaluator.heard) == (2, [1])


def test_an_evaluation_that_passes_keeps_its_extras() -> None:
    outcome = judge(Told(*at(0.5, 0.6, 0.9)), {"1": 0.5, "2": 0.6})
    assert outcome.result == Evaluation(0.9, {"kept": 1, "rungs": {"1": 0.5, "2": 0.6}})
    assert outcome.pruned_at is None
    assert judge(Told(*at(0.5)), {}).result == Evaluation(0.9, {"kept": 1})


def test_steps_told_twice_count_once() -> None:
    again = [*at(0.5, 0.6), *at(0.5, 0.6, 0.9)]
    assert judge(Told(*again), {"1": 0.5, "2": 0.6}).result == Evaluation(
        0.9, {"kept": 1, "rungs": {"1": 0.5, "2": 0.6}}
    )


@pytest.mark.parametrize("reports", [at(0.5)[:0], at(0.5), at(0.5, 0.6, 0.7)[2:], [(1, {"loss": 1.0})]])
def test_a_rung_that_is_left_out_ends_the_search(reports: list[tuple[int, dict[str, float]]]) -> None:
    with pytest.raises(SearchError, match=r"evaluator told did not report val_accuracy at step \d, where the search"):
        judge(Told(*reports), {"1": None, "2": None})


@pytest.mark.parametrize("accuracy", [math.nan, 1.2])
def test_an_impossible_accuracy_at_a_rung_fails_the_trial(accuracy: float) -> None:
    assert "at step 1, outside [0, 1]" in str(judge(Told(*at(accuracy)), {"1": None}).result)


def test_a_stop_is_no_failure() -> None:
    outcome = judge(Careless(*at(0.5, 0.6)), {"1": 0.7})
    assert (outcome.pruned_at, outcome.result) == (1, Evaluation(0.5, {"rungs": {"1": 0.5}}))


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(0,), (2, 2), (4, 2), (-1,), (1.5,), (True,)])
def test_rungs_that_make_no_sense_are_refused(steps: tuple[Any, ...]) -> None:
    with pytest.raises(SearchError, match=r"rungs are .*; they must be rising numbers of epochs"):
        Rungs(steps)


@pytest.mark.parametrize("eta", [1.0, 0.0, math.inf, math.nan])
def test_an_eta_that_makes_no_sense_is_refused(eta: float) -> None:
    with pytest.raises(SearchError, match="it must be above 1"):
        Rungs((1,), eta)


def test_rungs_need_an_evaluator_with_steps_beyond_them() -> None:
    Rungs().check(Told())
    Rungs((1, 2)).check(Told())
    with pytest.raises(SearchError, match=r"the rung at epoch 3 stops nothing, because an evaluation ends after 3"):
        Rungs((1, 3)).check(Told())
    lookup = Told()
    lookup.steps = 0
    Rungs().check(lookup)
    with pytest.raises(SearchError, match="evaluator told reports no steps"):
        Rungs((1,)).check(lookup)
