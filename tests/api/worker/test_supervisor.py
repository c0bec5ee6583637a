"""Workers as real processes: they run what is queued, stop, give back, take over, and never count a trial twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE_S, wait_for

from api.compose import queue_search, run_search, store_search
from api.plans.checks import check_evaluator
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.settings import Settings
from api.store import Store
from api.store.jobs import Wanted
from api.worker.supervisor import Supervisor
from nas.spaces.recipe import SpaceSpec

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts `nas worker` on the store of the test; all are gone at the end."""
    started: list[subprocess.Popen[bytes]] = []
    url = {"LIGHTNAS_DATABASE_URL": settings.database_url} if settings.database_url else {}
    environment = {k: v for k, v in os.environ.items() if k != "LIGHTNAS_DATABASE_URL"}
    environment |= {"LIGHTNAS_HOME": str(settings.home), "OMP_NUM_THREADS": "1", **url}
    environment["LIGHTNAS_DATA_ROOT"] = str(tmp_path / "data")

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "api.cli", "worker", "--lease", "3", *options]
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def spec(benchmark_table: Path) -> Callable[..., SearchSpec]:
    def make(trials: int, **others: Any) -> SearchSpec:
        options = {"path": str(benchmark_table)}
        space = SpaceSpec.of("nas-bench-macro")
        return SearchSpec(
            space, strategy="annealing", evaluator="table", evaluator_options=options, trials=trials, **others
        )

    return make


def queue(store: Store, spec: SearchSpec) -> tuple[int, int]:
    """A search and its job."""
    plan = build_plan(spec, None)
    check_evaluator(plan, store.settings)
    search = queue_search(store, plan, board=None, owner="ada").id
    job = store.jobs.of_search(search)
    assert job is not None
    return search, job.id


def table(store: Store, search: int) -> list[tuple[Any, ...]]:
    return [(t.number, t.encoding, t.state, t.accuracy, t.reward) for t in store.searches.log(search).load()]


def undisturbed(store: Store, spec: SearchSpec) -> list[tuple[Any, ...]]:
    record = store_search(store, build_plan(spec, None), board=None)
    run_search(store, record)
    return table(store, record.id)


def test_a_queued_search_is_run_like_one_of_the_command_line(
    store: Store, start_worker: StartWorker, spec: Callable[..., SearchSpec]
) -> None:
    search, job = queue(store, spec(40))
    start_worker()
    wait_for(lambda: store.searches.by_id(search).state == "complete")
    assert table(store, search) == undisturbed(store, spec(40))
    found = store.jobs.get(job)
    assert found.result == {"stopped": "done", "trials": 40, "complete": 40, "pruned": 0, "failed": 0}
    assert [w.capacity for w in store.workers.alive()] == [2]
    kinds = [e.kind for e in store.events.after(0, search_id=search)]
    assert (kinds.count("trial.started"), kinds.count("trial.ended")) == (40, 40)


@pytest.mark.slow
def test_pause_resume_sigterm_and_sigkill_change_nothing_but_the_time(
    store: Store, start_worker: StartWorker, spec: Callable[..., SearchSpec]
) -> None:
    trials = 1200
    search, job = queue(store, spec(trials))

    def done() -> int:
        return store.searches.by_id(search).complete

    def state() -> str:
        return store.jobs.get(job).state

    first = start_worker("--name", "first")
    wait_for(lambda: done() > 20)
    store.jobs.stop(job, Wanted.PAUSE)
    wait_for(lambda: state() == "paused")
    assert done() < trials
    store.jobs.requeue(job)
    before = done()
    wait_for(lambda: done() > before + 20)
    first.terminate()
    assert first.wait(PATIENCE_S) == 0
    assert state() == "queued"
    assert store.workers.alive() == []
    assert done() < trials
    second = start_worker("--name", "second")
    before = done()
    wait_for(lambda: done() > before + 20)
    second.kill()
    start_worker("--name", "third")
    wait_for(lambda: state() == "complete")
    assert store.jobs.get(job).attempts >= 1
    assert table(store, search) == undisturbed(store, spec(trials))


@pytest.mark.slow
def test_a_job_whose_process_is_killed_goes_on(
    store: Store, start_worker: StartWorker, spec: Callable[..., SearchSpec]
) -> None:
    search, _ = queue(store, spec(1200))
    worker = start_worker()
    wait_for(lambda: store.searches.by_id(search).complete > 20)
    children = subprocess.run(["pgrep", "-P", str(worker.pid)], capture_output=True, text=True, check=True).stdout
    for pid in children.split():
        os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: store.searches.by_id(search).state == "complete")
    assert table(store, search) == undisturbed(store, spec(1200))


def test_a_cancelled_search_ends_and_a_failing_one_says_why(
    store: Store, start_worker: StartWorker, spec: Callable[..., SearchSpec], benchmark_table: Path
) -> None:
    search, job = queue(store, spec(3000))
    failing, _ = queue(store, spec(5))
    benchmark_table.unlink()  # both were checked when it was there; the first has read it when it is cancelled
    benchmark_table.write_text("arch,acc_seed0\n")
    start_worker()
    wait_for(lambda: store.searches.by_id(failing).state == "failed")
    assert str(benchmark_table) in str(store.searches.by_id(failing).error)
    wait_for(lambda: store.searches.by_id(search).state == "failed")
    small = SpaceSpec("mobilenetv2-small", (8,), 10, 1)  # a cancelled search ends after the epoch that runs
    options = {"data": "digits"}
    waiting, _ = queue(store, SearchSpec(small, evaluator="training", evaluator_options=options, trials=50))
    wait_for(lambda: store.searches.by_id(waiting).running)
    found = store.jobs.of_search(waiting)
    assert found is not None
    store.jobs.stop(found.id, Wanted.CANCEL)
    wait_for(lambda: store.searches.by_id(waiting).state == "cancelled")
    assert store.jobs.get(job).state == "failed"


def test_a_worker_on_a_machine_of_a_long_name_works(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.jobs.create("export", {})
    names = set()
    for last in "xy":  # containers, in which processes have the same numbers
        host = "lightnas-worker-production-eu-central-1-nodepool-a-7d9f8b6c5-5x" + last
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        supervisor = Supervisor(store)
        supervisor._renew()
        names.add(supervisor.name)
    assert {w.name for w in store.workers.alive()} == names
    assert len(names) == 2
    assert {len(name) for name in names} == {64}
    assert all(name.startswith("lightnas-worker-production-eu") for name in names)
    assert all(name.endswith(f"-{os.getpid()}") for name in names)
    assert store.jobs.claim(supervisor.name, 30) is not None
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu1.example.org")
    assert Supervisor(store).name == f"gpu1.example.org-{os.getpid()}"
