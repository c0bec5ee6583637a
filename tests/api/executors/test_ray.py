from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from processes import is_running, wait_for

from api.errors import OptionError
from api.executors.ray import LOG, LOSSES, RayExecutor
from nas.cost import flops_model
from nas.errors import SearchError
from nas.executor import ATTEMPTS, Executor, Outcome, ProcessExecutor, Report, Step, Task
from nas.objective import Budget
from nas.search import Search, SearchEvent, TrialStep
from nas.spaces.recipe import SpaceSpec
from nas.strategies import build_strategy
from nas.trial import MemoryTrialLog

NAS_TESTS = Path(__file__).parents[2] / "nas"
SPACE = SpaceSpec("mobilenetv2-small", (16,))
GENES = len(SPACE.build().genes)
DEADLINE_S = 200.0
Make = Callable[..., RayExecutor]


def load_cluster() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ray_cluster", Path(__file__).with_name("ray_cluster.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ray_cluster"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pythonpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the evaluator `toy` is installed, as a third party's package would be."""
    site = tmp_path_factory.mktemp("site")
    info = site / "toy_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lightnas.evaluators]\ntoy = toy_search:ToyEvaluator\n")
    return os.pathsep.join([str(site), str(NAS_TESTS), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def cluster(pythonpath: str) -> Iterator[Any]:
    """A cluster nobody breaks."""
    pytest.importorskip("ray", reason="RAY ABSENT: pip install 'lightnas[ray]' to run these tests")
    with load_cluster().ray_cluster(2, PYTHONPATH=pythonpath) as found:
        yield found


@pytest.fixture
def make(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes executors on that cluster; closed at the end."""
    made: list[RayExecutor] = []
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)

    def build(
        evaluator: str = "toy", *, address: str = cluster.address, cpus: float = 1, gpus: float = 0, **options: Any
    ) -> RayExecutor:
        common: dict[str, Any] = {"parallel": 2, "workdir": tmp_path, "address": address}
        made.append(RayExecutor(SPACE, evaluator, options, cpus=cpus, gpus=gpus, **common))
        return made[-1]

    yield build
    for executor in made:
        executor.close()


def task(folder: Path, number: int = 0) -> Task:
    return Task(number, (number % 3,) * GENES, 3 + number, folder / str(number))


def hear(executor: Executor, until: Callable[[list[Report]], bool], earlier: Iterable[Report] = ()) -> list[Report]:
    """Everything told, what was told earlier included, until that is true of it."""
    reports = [*earlier]
    deadline = time.monotonic() + DEADLINE_S
    while not until(reports):
        assert time.monotonic() < deadline, reports
        reports += executor.wait(1.0)
    return reports


def outcomes(reports: list[Report]) -> list[Outcome]:
    return [r for r in reports if isinstance(r, Outcome)]


def vanish(*pids: int) -> None:
    """Wait for processes to end."""
    wait_for(lambda: not any(map(is_running, pids)), DEADLINE_S, f"the end of {pids}")


def kill_driver(executor: RayExecutor) -> None:
    assert executor._driver is not None
    os.kill(executor._driver.pid, signal.SIGKILL)


def listening_beyond_loopback(pids: set[int]) -> list[str]:
    """Addresses (hexadecimal, as /proc/net/tcp has them) on which one of the processes hears other machines."""
    sockets: set[str] = set()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            for file in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    sockets.add(str(file.readlink()))
    rows = [r.split() for kind in ("tcp", "tcp6") for r in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    heard = [r[1].split(":")[0] for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in sockets]
    assert heard  # Ray does listen
    return [a for a in heard if a not in ("0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000")]


# Options -----------------------------------------------------------------------------------------------------------


def test_without_ray_it_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'lightnas\[ray\]'"):
        RayExecutor(SPACE, "training", {}, parallel=1, workdir=tmp_path, address=None)


@pytest.mark.parametrize(("cpus", "gpus"), [(0.0, 0.0), (-1.0, 1.0)])
def test_a_trial_takes_something(tmp_path: Path, cpus: float, gpus: float) -> None:
    pytest.importorskip("ray")
    with pytest.raises(OptionError, match="give it some of one"):
        RayExecutor(SPACE, "training", {}, parallel=1, workdir=tmp_path, address=None, cpus=cpus, gpus=gpus)


# A Ray of this machine's own ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_an_address_ray_is_started_here_on_loopback_and_stopped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    options = {"epochs": 2, "device": "cpu"}
    local = ProcessExecutor(SPACE, "training", options, parallel=1, workdir=tmp_path / "local")
    local.submit(task(tmp_path / "local"))
    expected = hear(local, lambda r: bool(outcomes(r)))
    local.close()

    executor = RayExecutor(SPACE, "training", options, parallel=1, workdir=tmp_path / "ray", address=None)
    descendants = load_cluster().descendants
    before = descendants(os.getpid())
    try:
        executor.submit(task(tmp_path / "ray"))
        reports = hear(executor, lambda r: bool(r))
        started = descendants(os.getpid()) - before
        assert listening_beyond_loopback({p for p in started if is_running(p)}) == []
        reports = hear(executor, lambda r: bool(outcomes(r)), reports)  # which may have told all at once
    finally:
        executor.close()
    assert [r for r in reports if isinstance(r, Step)] == [r for r in expected if isinstance(r, Step)]
    assert outcomes(reports)[0].result == outcomes(expected)[0].result
    vanish(*started)
    assert capfd.readouterr().out == ""


# A cluster ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_trials_run_side_by_side_on_the_nodes(make: Make, tmp_path: Path) -> None:
    executor = make(seconds=0.5)
    for number in range(3):
        executor.submit(task(tmp_path, number))
    ended = outcomes(hear(executor, lambda r: len(outcomes(r)) == 3))
    assert sorted(o.number for o in ended) == [0, 1, 2]
    assert all(not isinstance(o.result, str) and o.seconds > 0 for o in ended)
    assert executor.wait(1.0) == []


@pytest.mark.slow
def test_a_trial_stops_at_its_rung(make: Make, tmp_path: Path) -> None:
    executor = make()
    executor.submit(Task(0, (0,) * GENES, 3, tmp_path / "0", {"2": 1.0}))
    (ended,) = outcomes(hear(executor, lambda r: bool(outcomes(r))))
    assert ended.pruned_at == 2


@pytest.mark.slow
def test_a_process_that_dies_has_its_attempts_and_no_more(make: Make, tmp_path: Path) -> None:
    once, always = make(crash="once"), make(crash="always")
    once.submit(task(tmp_path, 1))
    always.submit(task(tmp_path, 2))
    (ended,) = outcomes(hear(once, lambda r: bool(outcomes(r))))
    assert not isinstance(ended.result, str)
    (failed,) = outcomes(hear(always, lambda r: bool(outcomes(r))))
    assert isinstance(failed.result, str)
    assert f"died {ATTEMPTS} times" in failed.result
    assert "SIGABRT" in failed.result


@pytest.mark.slow
def test_what_concerns_one_architecture_fails_one_trial(make: Make, tmp_path: Path) -> None:
    executor = make(crash="fail")
    executor.submit(task(tmp_path))
    (ended,) = outcomes(hear(executor, lambda r: bool(outcomes(r))))
    assert ended.result == "toy always fails"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("evaluator", "options", "text"),
    [("nothing", {}, "no evaluator 'nothing'"), ("toy", {"crash": "build"}, "toy cannot be built")],
)
def test_what_concerns_every_trial_ends_the_search(
    make: Make, tmp_path: Path, evaluator: str, options: dict[str, Any], text: str
) -> None:
    executor = make(evaluator, **options)
    executor.submit(task(tmp_path))
    with pytest.raises(SearchError, match=text):
        hear(executor, lambda r: bool(r))


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_ends_the_search(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    executor = make()
    executor.submit(task(tmp_path / "file"))
    with pytest.raises(SearchError, match=r"cannot run trials: .*Not a directory"):
        hear(executor, lambda r: bool(r))


@pytest.mark.slow
def test_a_cancelled_trial_dies_and_tells_nothing_more(make: Make, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    executor = make(seconds=100.0, pids=str(pids))
    executor.submit(task(tmp_path))
    deadline = time.monotonic() + DEADLINE_S
    while not list(pids.iterdir()):
        assert time.monotonic() < deadline
        executor.wait(0.1)
    executor.cancel(0)
    vanish(*(int(p.name) for p in pids.iterdir()))
    assert executor.wait(2.0) == []


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_nothing_runs_on_after_the_executor_is_closed_or_its_process_killed(
    make: Make, tmp_path: Path, kill: bool
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    executor = make(seconds=100.0, pids=str(pids))
    executor.submit(task(tmp_path))
    deadline = time.monotonic() + DEADLINE_S
    while not list(pids.iterdir()):
        assert time.monotonic() < deadline
        executor.wait(0.1)
    if kill:
        kill_driver(executor)
    else:
        executor.close()
    vanish(*(int(p.name) for p in pids.iterdir()))


@pytest.mark.slow
def test_stopped_trials_end_after_their_next_step_and_those_not_begun_at_once(make: Make, tmp_path: Path) -> None:
    executor = make(seconds=10.0)  # they are stopped before the first of them ends
    for number in range(3):  # there is room for two
        executor.submit(task(tmp_path, number))
    hear(executor, lambda r: any(s.number == 0 for s in r))
    numbers = [r.number for r in executor.stop(DEADLINE_S) if isinstance(r, Step)]
    assert numbers in ([0], [0, 1], [1, 0])
    assert executor.wait(1.0) == []


@pytest.mark.slow
def test_a_lost_connection_begins_the_trials_again(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make(seconds=8.0)  # long enough to be amid it still when its first step is heard
    executor.submit(task(tmp_path))
    reports = hear(executor, lambda r: bool(r))
    kill_driver(executor)
    reports += hear(executor, lambda r: bool(outcomes(r)))
    (ended,) = outcomes(reports)
    assert not isinstance(ended.result, str)
    assert ended.result.extras["resumed_at"] > 0
    assert "trial 0 begins again: the connection to the Ray cluster ended" in caplog.text


@pytest.mark.slow
def test_a_connection_that_is_lost_again_and_again_fails_the_trial(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.executors.ray._DRIVER", "raise SystemExit(7)")
    executor = make()
    executor.submit(task(tmp_path))
    (ended,) = outcomes(hear(executor, lambda r: bool(outcomes(r))))
    assert isinstance(ended.result, str)
    assert (
        f"lost {LOSSES + 1} times, last because: the connection to the Ray cluster ended with status 7" in ended.result
    )


@pytest.mark.slow
def test_a_cluster_without_room_for_a_trial_is_told(make: Make, tmp_path: Path) -> None:
    executor = make(cpus=2, gpus=1)
    executor.submit(task(tmp_path))
    with pytest.raises(SearchError, match="no node of the Ray cluster has 2 CPUs and 1 GPUs"):
        hear(executor, lambda r: bool(r))


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (0.5, "0"), (1.0, "0")])
def test_a_trial_sees_the_gpus_it_takes_and_one_thread(make: Make, tmp_path: Path, gpus: float, seen: str) -> None:
    executor = make(gpus=gpus, seconds=10.0, pids=str(tmp_path))  # it is looked at while it runs
    executor.submit(task(tmp_path / "trials"))
    hear(executor, lambda r: bool(r))
    (pid,) = (p.name for p in tmp_path.iterdir() if p.name.isdigit())
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert f"CUDA_VISIBLE_DEVICES={seen}" in environment
    assert "OMP_NUM_THREADS=1" in environment


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(make: Make, tmp_path: Path) -> None:
    executor = make(address="127.0.0.1:9")
    executor.submit(task(tmp_path))
    with pytest.raises(SearchError, match=r"cannot join the Ray cluster 127\.0\.0\.1:9 from this machine"):
        hear(executor, lambda r: bool(r))
    assert (tmp_path / LOG).exists()


# A lost node ----------------------------------------------------------------------------------------------------------


def run_search(executor: Executor, folder: Path, on_event: Callable[[SearchEvent], None]) -> list[tuple[object, ...]]:
    """The trial table of eight trials, two at a time."""
    space, log = SPACE.build(), MemoryTrialLog()
    cost = flops_model(space)
    budgets = [Budget("flops", 0.3 * cost.maximum()[0], cost)]
    strategy = build_strategy("annealing", space, budgets, 7)
    fixed: dict[str, Any] = {"trials": 8, "parallel": 2, "seed": 7, "budgets": budgets, "workdir": folder}
    Search(space, strategy, executor, log, on_event=on_event, **fixed).run()
    return [(t.number, t.encoding, t.state, t.accuracy) for t in log.load()]


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_a_node_is_killed_amid_a_trial_and_the_search_ends_the_same(
    pythonpath: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whole: bool
) -> None:
    pytest.importorskip("ray")
    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", pythonpath)
        here = ProcessExecutor(SPACE, "toy", {}, parallel=2, workdir=tmp_path / "here")
        undisturbed = run_search(here, tmp_path / "here", lambda event: None)
    killed: list[str] = []
    with load_cluster().ray_cluster(2, PYTHONPATH=pythonpath) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)

        def disturb(event: SearchEvent) -> None:
            if not killed and isinstance(event, TrialStep) and event.number >= 2 and event.progress.step == 1:
                runs = [m for m in caplog.messages if m.startswith(f"trial {event.number} runs on")]
                killed.extend(n for n in cluster.raylets if n in runs[-1])
                cluster.kill(killed[0], whole=whole)

        options = {"seconds": 4.0}  # only slower; a process notices within a second that its raylet is gone
        executor = RayExecutor(SPACE, "toy", options, parallel=2, workdir=tmp_path / "ray", address=cluster.address)
        table = run_search(executor, tmp_path / "ray", disturb)
    assert table == undisturbed
    (lost,) = (m for m in caplog.messages if "begins again" in m)
    number = lost.split()[1]
    nodes = [m for m in caplog.messages if m.startswith(f"trial {number} runs on")]
    assert len(nodes) == 2
    assert killed[0] in nodes[0]
    assert killed[0] not in nodes[1]


@pytest.mark.slow
def test_a_node_that_hangs_is_given_up(
    pythonpath: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ray")
    caplog.set_level("INFO")
    with load_cluster().ray_cluster(2, PYTHONPATH=pythonpath) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        options = {"seconds": 10.0}  # it is stopped amid its trial
        executor = RayExecutor(SPACE, "toy", options, parallel=1, workdir=tmp_path, address=cluster.address)
        try:
            executor.submit(task(tmp_path))
            reports = hear(executor, lambda r: bool(r))
            hung = cluster.processes(next(n for n in cluster.raylets if n in caplog.text))
            for pid in hung:
                os.kill(pid, signal.SIGSTOP)
            deadline = time.monotonic() + DEADLINE_S
            while "begins again: node" not in caplog.text:
                assert time.monotonic() < deadline
                reports += executor.wait(1.0)
            assert not outcomes(reports)
            for pid in hung:  # as its locks run out on a file server
                os.kill(pid, signal.SIGKILL)
            reports += hear(executor, lambda r: bool(outcomes(r)))
        finally:
            executor.close()
    (ended,) = outcomes(reports)
    assert not isinstance(ended.result, str)
    assert ended.result.extras["resumed_at"] > 0
