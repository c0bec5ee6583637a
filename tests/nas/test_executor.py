from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import DataError, EvaluationError, SearchError, UnknownPlugin
from nas.estimate import estimate
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report
from nas.executor import Executor, InlineExecutor, Outcome, ProcessExecutor, Step, Task, build_executor
from nas.space import SearchSpace
from nas.spaces.recipe import SpaceSpec

MACRO = SpaceSpec("nas-bench-macro")


class Odd(Evaluator):
    name = "odd"
    isolated = False

    def __init__(self, outcome: float | Exception) -> None:
        self.outcome = outcome

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        report(Progress(1, 2, {"loss": 1.0}))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Evaluation(self.outcome, {"seed": seed})


def task(folder: Path, number: int = 0) -> Task:
    return Task(number, (0, 1, 2, 0, 1, 2, 0, 1), 3, folder / str(number))


def test_inline_reports_steps_and_the_result(macro: SearchSpace, tmp_path: Path) -> None:
    executor = InlineExecutor(macro, Odd(0.5))
    executor.submit(task(tmp_path))
    executor.submit(task(tmp_path, 1))
    executor.cancel(1)
    step, outcome = executor.wait(1.0)
    assert step == Step(0, Progress(1, 2, {"loss": 1.0}))
    assert isinstance(outcome, Outcome)
    assert outcome.result == Evaluation(0.5, {"seed": 3})
    assert executor.wait(0.0) == []


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (EvaluationError("too deep"), "too deep"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (1.5, "returned the accuracy 1.5, outside"),
        (float("nan"), "outside"),
    ],
)
def test_what_concerns_one_architecture_fails_one_trial(
    macro: SearchSpace, tmp_path: Path, raised: float | Exception, text: str
) -> None:
    executor = InlineExecutor(macro, Odd(raised))
    executor.submit(task(tmp_path))
    outcome = executor.wait(1.0)[-1]
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.result, str)
    assert text in outcome.result


@pytest.mark.parametrize("raised", [DataError("no pictures in /data"), OSError(28, "No space left on device")])
def test_what_concerns_every_trial_ends_the_search(macro: SearchSpace, tmp_path: Path, raised: Exception) -> None:
    executor = InlineExecutor(macro, Odd(raised))
    executor.submit(task(tmp_path))
    with pytest.raises(SearchError, match=r"no trial can be evaluated: .*(no pictures|No space left)"):
        executor.wait(1.0)


def test_a_child_that_cannot_build_its_evaluator_ends_the_search(tmp_path: Path) -> None:
    executor = ProcessExecutor(MACRO, "nothing", {}, parallel=1, workdir=tmp_path)
    executor.submit(task(tmp_path))
    try:
        with pytest.raises(SearchError, match="no evaluator 'nothing'"):
            executor.wait(300.0)
    finally:
        executor.close()


def test_wrong_evaluators_are_told_before_any_process(macro: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(UnknownPlugin):
        build_executor(MACRO, macro, "nothing", workdir=tmp_path)
    with pytest.raises(EvaluationError):
        build_executor(MACRO, macro, "table", {"no_such_option": 1}, workdir=tmp_path)


def test_a_table_runs_in_this_process_and_a_training_in_another(
    macro: SearchSpace, tmp_path: Path, benchmark_data: Path
) -> None:
    table = str(benchmark_data / "nas_bench_macro" / "nas_bench_macro_cifar10.csv")
    assert isinstance(build_executor(MACRO, macro, "table", {"path": table}, workdir=tmp_path), InlineExecutor)
    assert isinstance(build_executor(MACRO, macro, "training", parallel=2, workdir=tmp_path), ProcessExecutor)


@pytest.mark.parametrize(
    "spec",
    [
        SpaceSpec("mobilenetv2-small", (48,), 5, 1),
        SpaceSpec("mine.yaml", (24, 32), None, None, "input: {resolution: 32}\nstages: [{width: [8, 16]}]\n"),
    ],
)
def test_a_space_travels_as_plain_values(spec: SpaceSpec) -> None:
    again = SpaceSpec.from_dict(spec.to_dict())
    assert again == spec
    assert again.build().digest == spec.build().digest


def test_a_yaml_file_is_read_when_the_spec_is_made(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("input: {resolution: 32}\nstages: [{width: [8, 16]}]\n")
    spec = SpaceSpec.of(str(file))
    digest = spec.build().digest
    file.write_text("broken")
    assert spec.build().digest == digest


def test_an_estimate_scales_the_first_steps(macro: SearchSpace) -> None:
    scratch: list[Path] = []

    def build(folder: Path) -> Executor:
        scratch.append(folder)
        return InlineExecutor(macro, Odd(0.5))

    found = estimate(macro, (), build, trials=100, parallel=2)
    assert len(found.trial_seconds) == 3
    assert found.hours == pytest.approx(sum(found.trial_seconds) / 3 * 50 / 3600)
    assert not scratch[0].exists()
    with pytest.raises(SearchError, match="no candidate could be evaluated: too deep"):
        estimate(
            macro, (), lambda folder: InlineExecutor(macro, Odd(EvaluationError("too deep"))), trials=1, parallel=1
        )
