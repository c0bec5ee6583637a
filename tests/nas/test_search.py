from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from formula import Formula
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import is_running, wait_for

from nas.cost import flops_model, params_model
from nas.errors import SearchError
from nas.executor import Executor, InlineExecutor, Task
from nas.executor import Report as ExecutorReport
from nas.objective import Budget, SoftReward
from nas.rungs import Rungs
from nas.search import Search, SearchEvent, Stopped, TrialEnded, TrialStarted, TrialStep
from nas.space import Encoding
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategies.uniform import Uniform
from nas.trial import MemoryTrialLog, Trial, TrialState

MACRO = build_space("nas-bench-macro")
TOY = Path(__file__).with_name("toy_search.py")


class Shuffled(Executor):
    """Ends tasks in a random order."""

    def __init__(self, inner: Executor, capacity: int, order: random.Random) -> None:
        self.inner, self.capacity, self.order, self.tasks = inner, capacity, order, list[Task]()

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self, timeout_s: float) -> list[ExecutorReport]:
        self.inner.submit(self.tasks.pop(self.order.randrange(len(self.tasks))))
        return self.inner.wait(timeout_s)

    def cancel(self, number: int) -> None:
        self.tasks = [t for t in self.tasks if t.number != number]

    def stop(self, grace_s: float) -> list[ExecutorReport]:
        self.tasks.clear()
        return []


def search(
    tmp_path: Path, log: MemoryTrialLog, name: str = "annealing", *, trials: int = 30, parallel: int = 1, **more: Any
) -> Search:
    cost = flops_model(MACRO)
    budgets = [Budget("flops", 0.6 * cost.maximum()[0], cost)]
    executor = more.pop("executor", None) or InlineExecutor(MACRO, Formula())
    strategy = more.pop("strategy", None) or build_strategy(name, MACRO, budgets, 5)
    fixed: dict[str, Any] = {"trials": trials, "parallel": parallel, "budgets": budgets, "seed": 5, "workdir": tmp_path}
    return Search(MACRO, strategy, executor, log, **fixed, **more)


def plain(log: MemoryTrialLog) -> list[tuple[object, ...]]:
    return [(t.number, t.encoding, t.state, t.accuracy, t.extras) for t in log.load()]


def test_a_search_makes_its_trials_and_tells_the_best(tmp_path: Path) -> None:
    log, events = MemoryTrialLog(), list[SearchEvent]()
    result = search(tmp_path, log, costs={"params": params_model(MACRO)}, on_event=events.append).run()
    trials = list(log.load())
    assert (result.trials, result.stopped) == (30, Stopped.DONE)
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    assert result.best == max(complete, key=lambda t: (t.reward or 0.0, -t.number))
    assert (result.complete, result.failed) == (len(complete), 30 - len(complete))
    assert result.failed > 0
    assert set(trials[0].costs) == {"flops", "params"}
    assert trials[0].costs["params"] == MACRO.graph(trials[0].encoding).params
    kinds = [type(e) for e in events if isinstance(e, TrialStarted | TrialEnded) or e.number == 0]
    assert kinds[:3] == [TrialStarted, TrialStep, TrialEnded]
    assert len(kinds) == 61


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["annealing", "random", "tpe"]), st.integers(1, 4), st.integers(0, 2**32))
def test_whatever_order_trials_end_in_the_trials_are_the_same(name: str, parallel: int, order: int) -> None:
    straight, shuffled = MemoryTrialLog(), MemoryTrialLog()
    search(Path("unused"), straight, name, trials=16, parallel=parallel).run()
    executor = Shuffled(InlineExecutor(MACRO, Formula()), parallel, random.Random(order))
    search(Path("unused"), shuffled, name, trials=16, parallel=parallel, executor=executor).run()
    assert plain(shuffled) == plain(straight)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["annealing", "tpe"]), st.integers(1, 3), st.lists(st.integers(0, 25), max_size=3))
def test_stopped_anywhere_it_goes_on_the_same(name: str, parallel: int, stops: list[int]) -> None:
    straight, broken = MemoryTrialLog(), MemoryTrialLog()
    search(Path("unused"), straight, name, trials=14, parallel=parallel).run()
    for after in stops:
        count = iter(range(100))
        stop = lambda a=after, i=count: next(i) >= a  # noqa: E731
        result = search(Path("unused"), broken, name, trials=14, parallel=parallel, should_stop=stop).run()
        assert result.stopped in (Stopped.STOPPED, Stopped.DONE)
    result = search(Path("unused"), broken, name, trials=14, parallel=parallel).run()
    assert result.stopped is Stopped.DONE
    assert plain(broken) == plain(straight)


def test_trial_n_knows_exactly_the_trials_up_to_n_minus_parallel(tmp_path: Path) -> None:
    class Recorder(Uniform):
        told, seen = -1, list[tuple[int, int]]()

        def ask(self, number: int) -> Encoding:
            self.seen.append((number, self.told))
            return super().ask(number)

        def tell(self, trial: Trial) -> None:
            assert trial.number == self.told + 1
            self.told = trial.number

    strategy = Recorder(MACRO, (), 0)
    executor = Shuffled(InlineExecutor(MACRO, Formula()), 3, random.Random(0))
    log = MemoryTrialLog()
    Search(MACRO, strategy, executor, log, trials=20, parallel=3, workdir=tmp_path).run()
    assert strategy.seen == [(n, max(n - 3, -1)) for n in range(20)]
    assert strategy.told == 19


def test_an_exhausted_space_ends_cleanly(tmp_path: Path) -> None:
    cost = flops_model(MACRO)
    low, high = cost.minimum()[0], cost.maximum()[0]
    budgets = [Budget("flops", low + 0.1 * (high - low), cost)]
    for parallel in (1, 4):
        log = MemoryTrialLog()
        strategy = build_strategy("annealing", MACRO, budgets, 0)
        executor = InlineExecutor(MACRO, Formula())
        result = Search(
            MACRO, strategy, executor, log, trials=50, parallel=parallel, budgets=budgets, workdir=tmp_path
        ).run()
        assert (result.trials, result.stopped) == (12, Stopped.EXHAUSTED)


def test_nothing_over_budget_becomes_a_trial(tmp_path: Path) -> None:
    log = MemoryTrialLog()
    with pytest.raises(SearchError, match=r"over the budget of .* mistake of Uniform"):
        search(tmp_path, log, strategy=Uniform(MACRO, (), 0), trials=200).run()
    cost = flops_model(MACRO)
    assert all(cost.one(MACRO.row(t.encoding)) <= 0.6 * cost.maximum()[0] for t in log.load())


def test_the_reward_is_told_and_kept(tmp_path: Path) -> None:
    log, cost = MemoryTrialLog(), flops_model(MACRO)
    reward = SoftReward(target_ms=5e7)
    search(tmp_path, log, reward=reward, costs={"latency_ms": cost}).run()
    for t in log.load():
        if t.accuracy is not None:
            assert t.reward == reward(t.accuracy, {"latency_ms": cost.one(MACRO.row(t.encoding))})


@pytest.mark.parametrize(
    ("trial", "text"),
    [
        (Trial(1, (0,) * 8), "has trial 1 where 0 should be"),
        (Trial(0, (0,) * 7), "trial 0 of the log is not of this space"),
    ],
)
def test_a_foreign_or_damaged_log_is_refused(tmp_path: Path, trial: Trial, text: str) -> None:
    with pytest.raises(SearchError, match=text):
        search(tmp_path, MemoryTrialLog([trial])).run()


@pytest.mark.slow
def test_memory_is_flat() -> None:
    few, many = "320", "1300"  # the table of the set of networks has last grown shortly before both
    script = Path(__file__).with_name("flat_search.py")
    done = subprocess.run([sys.executable, script, few, many], stdout=subprocess.PIPE, text=True, check=True)
    assert float(done.stdout) <= 200


# Real processes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The toy search as a module, its evaluator registered as a third-party package would."""
    site = tmp_path / "site"
    info = site / "toy_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lightnas.evaluators]\ntoy = toy_search:ToyEvaluator\n")
    paths = [str(site), str(TOY.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(TOY.parent))
    spec = importlib.util.find_spec("toy_search")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_search", module)
    spec.loader.exec_module(module)
    return module


def lines(toy: ModuleType, folder: Path) -> list[tuple[object, ...]]:
    return [
        (t.number, t.encoding, t.state, t.accuracy, t.attrs, t.stop_below, t.extras.get("rungs"))
        for t in toy.FileTrialLog(folder / "trials.jsonl").load()
    ]


def in_folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_killed_process_is_tried_once_more_and_resumes(toy: ModuleType, tmp_path: Path) -> None:
    calm, hit = in_folder(tmp_path, "calm"), in_folder(tmp_path, "hit")
    steps: list[TrialStep] = []

    def note(event: SearchEvent) -> None:
        if isinstance(event, TrialStep):
            steps.append(event)

    toy.build_search(calm, "annealing", 2, 4, on_event=note).run()
    toy.build_search(hit, "annealing", 2, 4, options={"crash": "once"}).run()
    assert lines(toy, hit) == lines(toy, calm)
    assert sorted((s.number, s.progress.step) for s in steps) == [(n, s) for n in range(4) for s in (1, 2, 3)]


def test_killed_between_a_checkpoint_and_its_decision_the_same_is_decided(toy: ModuleType, tmp_path: Path) -> None:
    calm, hit = in_folder(tmp_path, "calm"), in_folder(tmp_path, "hit")
    rungs = Rungs((1,), eta=2.0)
    toy.build_search(calm, "random", 1, 6, rungs=rungs, options={"seconds": 0.0}).run()
    toy.build_search(hit, "random", 1, 6, rungs=rungs, options={"crash": "undecided", "seconds": 0.0}).run()
    assert lines(toy, hit) == lines(toy, calm)
    killed = [t for t in toy.FileTrialLog(hit / "trials.jsonl").load() if (hit / str(t.number) / "crashed").exists()]
    assert {t.pruned_at for t in killed} >= {None, 1}


def test_a_process_that_dies_twice_fails_its_trial_only(toy: ModuleType, tmp_path: Path) -> None:
    folder = in_folder(tmp_path, "a")
    result = toy.build_search(folder, "annealing", 1, 3, options={"crash": "always"}).run()
    assert (result.complete, result.failed) == (1, 2)
    trials = list(toy.FileTrialLog(folder / "trials.jsonl").load())
    assert "died 2 times, last with SIGABRT" in (trials[1].error or "")


def test_an_exception_fails_its_trial_in_one_line(toy: ModuleType, tmp_path: Path) -> None:
    folder = in_folder(tmp_path, "a")
    toy.build_search(folder, "annealing", 2, 7, options={"crash": "fifth", "seconds": 0.0}).run()
    trials = list(toy.FileTrialLog(folder / "trials.jsonl").load())
    assert [t.error for t in trials if t.error] == ["RuntimeError: toy fails once"]
    assert trials[5].state is TrialState.FAILED


def test_when_the_first_all_fail_the_search_says_why(toy: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"first 5 trials failed; the last because: toy always fails"):
        toy.build_search(in_folder(tmp_path, "a"), "annealing", 1, 50, options={"crash": "fail"}).run()
    with pytest.raises(SearchError, match=r"first 2 trials failed"):
        toy.build_search(in_folder(tmp_path, "b"), "annealing", 1, 2, options={"crash": "fail"}).run()


@pytest.mark.slow
def test_max_seconds_and_ctrl_c_stop_after_a_checkpoint_and_go_on(
    toy: ModuleType, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # Where SIGINT is ignored (a background job of a shell) Python does not raise KeyboardInterrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    calm, cut = in_folder(tmp_path, "calm"), in_folder(tmp_path, "cut")
    toy.build_search(calm, "annealing", 2, 5).run()
    # Two of the three steps take more than 3.2 s, so that none is in its last step when time is up.
    slowly = {"seconds": 8.0}
    assert toy.build_search(cut, "annealing", 2, 5, options=slowly, max_seconds=3.0).run().stopped is Stopped.TIME
    running = [t for t in toy.FileTrialLog(cut / "trials.jsonl").load() if t.state is TrialState.RUNNING]
    assert running
    assert all((cut / str(t.number) / "checkpoint").exists() for t in running)

    def interrupt(event: SearchEvent) -> None:
        if isinstance(event, TrialStep):
            signal.raise_signal(signal.SIGINT)

    result = toy.build_search(cut, "annealing", 2, 5, on_event=interrupt, grace_s=0.2).run()
    assert result.stopped is Stopped.INTERRUPTED
    toy.build_search(cut, "annealing", 2, 5).run()
    assert lines(toy, cut) == lines(toy, calm)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sigkill_leaves_no_process_behind(toy: ModuleType, tmp_path: Path) -> None:
    folder, pids = in_folder(tmp_path, "a"), in_folder(tmp_path, "pids")
    code = (
        "import sys; from pathlib import Path; from toy_search import build_search;"
        "build_search(Path(sys.argv[1]), 'random', 2, 9, options={'seconds': 9.0, 'pids': sys.argv[2]}).run()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder), str(pids)])
    try:
        wait_for(lambda: len(list(pids.iterdir())) >= 2)
        children = [int(p.name) for p in pids.iterdir()]
        assert len(children) == 2
        assert all(map(is_running, children))
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(map(is_running, children)))


def about_to_end(folder: Path) -> bool:
    """Whether a running trial has done two of its three steps and passes both rungs: it must be resumed, not begun."""
    log, running = folder / "trials.jsonl", {}
    for line in log.read_bytes().split(b"\n")[:-1] if log.exists() else []:
        trial = json.loads(line)
        running[trial["number"]] = trial if trial["state"] == "running" else None
    for checkpoint in folder.glob("**/checkpoint"):
        trial, done = running.get(int(checkpoint.parent.name)), json.loads(checkpoint.read_text())
        if trial and len(done) == 2:
            bounds = {int(rung): bound for rung, bound in (trial["stop_below"] or {}).items() if bound is not None}
            if all(done[rung - 1] >= bound for rung, bound in bounds.items()):
                return True
    return False


def killed_at_random(
    toy: ModuleType, tmp_path: Path, strategy: str, parallel: int, trials: int, kills: int, rungs: tuple[int, ...] = ()
) -> None:
    calm, cut = in_folder(tmp_path, "calm"), in_folder(tmp_path, "cut")
    result = toy.build_search(calm, strategy, parallel, trials, rungs=Rungs(rungs, eta=2.0)).run()
    assert (result.pruned > 0) == bool(rungs)
    log, moments = cut / "trials.jsonl", random.Random(f"{strategy} {parallel}")
    steps = ",".join(map(str, rungs)) or "-"
    command = [sys.executable, str(TOY), str(cut), strategy, str(parallel), str(trials), steps]
    for _ in range(trials):  # an aimed kill before the others: until one has met a trial between two steps, long ones
        process = subprocess.Popen([*command, "2.0"], stdout=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and not about_to_end(cut):
            time.sleep(0.001)
        process.kill()
        process.communicate()
        if about_to_end(cut):
            break
    for kill in range(kills):
        # Begin to count where the last process left off: wait for its first change, then for a random moment.
        before = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if kill % 4 == 3 or (log.exists() and log.stat().st_size > before):
                break
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.12))
        process.kill()
        process.communicate()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"done\n"
    assert lines(toy, cut) == lines(toy, calm)
    assert any(t.extras.get("resumed_at") for t in toy.FileTrialLog(log).load())


def test_sigkill_and_again_gives_the_same_trials(toy: ModuleType, tmp_path: Path) -> None:
    killed_at_random(toy, tmp_path, "annealing", 2, 10, 3, rungs=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "parallel", "rungs"),
    [
        *((strategy, parallel, ()) for strategy in ("annealing", "tpe", "nsga2") for parallel in (1, 2)),
        ("annealing", 2, (1, 2)),
        ("tpe", 2, (1, 2)),
    ],
)
def test_sigkill_at_20_random_moments(
    toy: ModuleType, tmp_path: Path, strategy: str, parallel: int, rungs: tuple[int, ...]
) -> None:
    killed_at_random(toy, tmp_path, strategy, parallel, 45, 20, rungs)
