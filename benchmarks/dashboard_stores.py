"""The same trials in a store of ours and in Optuna's, the servers of both, and processes that write more trials."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from local import free_port
from sample_search import fill

from api.networks.spaces import kept_space
from api.plans.spec import SearchSpec
from api.settings import Settings
from api.store import Store
from nas.trial import Trial, TrialState

EVENTS_PER_S = 50
STEPS = 3
TRIALS_PER_S = EVENTS_PER_S / (STEPS + 2)  # a trial: its start, its steps, its end


def make(folder: Path, count: int) -> None:
    """The stores, unless an earlier run made them."""
    if (folder / "made").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with Store.open(Settings(folder / "home")) as store:
        sample, live = (fill(store, name, count) for name in ("sample", "live"))
        store.searches.set_state(live, "running")
        space = kept_space(SearchSpec.from_dict(store.searches.by_id(sample).spec).space).space
        trials = list(store.searches.log(sample).load())
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    sa.event.listen(storage.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
    storage.engine.dispose()  # its connections from here on need not wait for the disk
    study = optuna.create_study(storage=storage, study_name="sample", directions=["maximize", "minimize"])
    choices: dict[str, BaseDistribution] = {gene.name: CategoricalDistribution(gene.choices) for gene in space.genes}
    for trial in trials:
        done = trial.state is TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.FAIL,
                values=[trial.accuracy or 0.0, trial.costs["flops"]] if done else None,
                params={g.name: g.choices[i] for g, i in zip(space.genes, trial.encoding, strict=True)},
                distributions=choices,
            )
        )
    (folder / "made").touch()


@contextlib.contextmanager
def optuna_dashboard(database: Path) -> Iterator[tuple[str, int]]:
    """`optuna-dashboard` on a database as long as the block runs; its URL and the number of its process."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "optuna-dashboard"), f"sqlite:///{database}", "--port", str(port)]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--quiet"], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/dashboard")
                break
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_until_idle(process: int) -> None:
    """Until a server has done what pages that were closed have asked of it."""

    def ticks() -> int:
        used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return int(used[11]) + int(used[12])

    before, now = -100, ticks()
    while now - before > 5:  # hundredths of a second, in two seconds
        time.sleep(2)
        before, now = now, ticks()


# Trials that are written while somebody looks -------------------------------------------------------------------------


def write_ours(place: str, search: int, stop: Any, told: Any) -> None:
    """Trials of a search in the LIGHTNAS_HOME `place`, until `stop`; tells 0 when ready, trials a second at the end."""
    with Store.open(Settings(Path(place))) as store:
        log = store.searches.log(search)
        known = list(log.load())
        due, written, began = _Pace(EVENTS_PER_S), 0, 0.0
        told.put(0)
        while not stop.is_set():
            began = began or time.monotonic()
            old = known[written % len(known)]
            trial = Trial(len(known) + written, old.encoding, costs=old.costs, attrs=old.attrs)
            due.wait()
            log.started(trial)
            for step in range(1, STEPS + 1):
                due.wait()
                data = {"step": step, "steps": STEPS, "metrics": {"val_accuracy": 0.3 * step}}
                store.events.add_steps(search, [(trial.number, data)])
            due.wait()
            log.finished(trial.complete(old.accuracy or 0.5, old.reward or 0.5, 1.0, {}))
            written += 1
        told.put(written / (time.monotonic() - began))


def write_theirs(place: str, _search: int, stop: Any, told: Any) -> None:
    """The same of the study in the database `place`."""
    study = optuna.load_study(study_name="sample", storage=f"sqlite:///{place}")
    known = [t for t in study.get_trials(deepcopy=False) if t.values]
    due, written, began = _Pace(TRIALS_PER_S), 0, 0.0
    told.put(0)
    while not stop.is_set():
        began = began or time.monotonic()
        due.wait()
        study.add_trial(known[written % len(known)])
        written += 1
    told.put(written / (time.monotonic() - began))


class _Pace:
    """So many a second on the whole: what comes late is made up for."""

    def __init__(self, per_s: float) -> None:
        self.gap, self.next = 1 / per_s, 0.0

    def wait(self) -> None:
        now = time.monotonic()
        self.next = (self.next or now) + self.gap
        time.sleep(max(0.0, self.next - now))


@contextlib.contextmanager
def writing(write: Callable[..., None], place: str, search: int) -> Iterator[list[float]]:
    """Trials are written by another process while the block runs; the list then holds how many a second."""
    spawn = multiprocessing.get_context("spawn")
    stop, told = spawn.Event(), spawn.Queue()
    process = spawn.Process(target=write, args=(place, search, stop, told))
    process.start()
    told.get(timeout=120)
    pace: list[float] = []
    try:
        yield pace
        stop.set()
        pace.append(told.get(timeout=120))
    finally:
        stop.set()
        process.join()
