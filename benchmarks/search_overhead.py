"""What a search costs beside its trainings: milliseconds a trial for proposing, logging and telling.

Runs real searches over `light-nas` under a budget of 300 M multiply-adds, with the real trial log in SQLite (every
call durable when it returns) and an evaluator that answers at once: a hash of the encoding. Prints milliseconds a
trial, split, for trials 0-99, 100-999 and 1 000-9 999, and how much of them was CPU time (the rest is waiting, for the
disk or for other programs); then, in the same run, Optuna's samplers asked and told in memory on the same objective,
and Optuna's own SQLite storage.

Usage: OPENBLAS_NUM_THREADS=1 python benchmarks/search_overhead.py [--strategies annealing random] [--trials 10000]
       python benchmarks/search_overhead.py --trials 100000 --memory    resident memory every 10 000 trials
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from api.settings import Settings
from api.store import Store
from nas.cost import flops_model, params_model
from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.executor import InlineExecutor
from nas.objective import Budget
from nas.search import Search, SearchEvent, TrialEnded
from nas.space import Encoding, SearchSpace
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategy import Strategy
from nas.trial import Trial, TrialLog

FLOPS_LIMIT = 300e6
WINDOWS = (100, 1_000, 10_000)
MEMORY_STEP = 10_000
PARTS = ("ask", "log", "tell")


def accuracy_of(encoding: tuple[int, ...]) -> float:
    """A number in [0, 1) that looks like nothing."""
    return int.from_bytes(hashlib.blake2b(bytes(encoding), digest_size=6).digest()) / 2**48


class HashEvaluator(Evaluator):
    """As quick as a table of accuracies."""

    name = "hash"
    isolated = False

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """The hash as an accuracy."""
        return Evaluation(accuracy_of(architecture.encoding))


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the block's seconds to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


class TimedStrategy(Strategy):
    """A strategy under the clock."""

    def __init__(self, inner: Strategy, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    def ask(self, number: int) -> Encoding:
        """Timed."""
        with self._clock.timed("ask"):
            return self._inner.ask(number)

    def tell(self, trial: Trial) -> None:
        """Timed."""
        with self._clock.timed("tell"):
            self._inner.tell(trial)

    def restore(self, trial: Trial) -> None:
        """Passed on."""
        self._inner.restore(trial)

    def attrs(self, number: int) -> Mapping[str, Any]:
        """Passed on."""
        return self._inner.attrs(number)


class TimedLog:
    """A trial log under the clock."""

    def __init__(self, inner: TrialLog, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    def load(self) -> Iterator[Trial]:
        """Passed on."""
        return self._inner.load()

    def started(self, trial: Trial) -> None:
        """Timed."""
        with self._clock.timed("log"):
            self._inner.started(trial)

    def finished(self, trial: Trial) -> None:
        """Timed."""
        with self._clock.timed("log"):
            self._inner.finished(trial)


def run_search(
    space: SearchSpace, folder: Path, name: str, trials: int, clock: Clock, on_trial: Callable[[int], None]
) -> None:
    """A real search; `on_trial` hears how many trials have ended, 0 first."""
    flops = flops_model(space)
    budgets = [Budget("flops", FLOPS_LIMIT, flops)]

    def heard(event: SearchEvent) -> None:
        if isinstance(event, TrialEnded):
            on_trial(event.trial.number + 1)

    with Store.open(Settings(folder)) as store:
        record = store.searches.create({}, space=space.name, space_digest=space.digest)
        search = Search(
            space,
            TimedStrategy(build_strategy(name, space, budgets, 0), clock),
            InlineExecutor(space, HashEvaluator()),
            TimedLog(store.searches.log(record.id), clock),
            trials=trials,
            workdir=folder,
            budgets=budgets,
            costs={"flops": flops, "params": params_model(space)},
            on_event=heard,
        )
        on_trial(0)
        search.run()


def overhead(space: SearchSpace, folder: Path, name: str, trials: int) -> None:
    """Print milliseconds a trial, window by window."""
    clock, first, marks = Clock(), 0, dict[str, float]()

    def on_trial(done: int) -> None:
        nonlocal first, marks
        if done not in (0, *WINDOWS):
            return
        now = {p: clock.seconds[p] for p in PARTS} | {"total": time.perf_counter(), "cpu": time.process_time()}
        if done == 0:
            marks = now
            return
        ms = {part: (now[part] - marks[part]) * 1e3 / (done - first) for part in now}
        rest = ms["total"] - sum(ms[p] for p in PARTS)
        print_row(name, f"{first}-{done - 1}", [*(ms[p] for p in PARTS), rest, ms["total"], ms["cpu"]])
        first, marks = done, now

    run_search(space, folder, name, trials, clock, on_trial)


def print_row(name: str, trials: str, values: list[float]) -> None:
    """One line of the table."""
    print(f"{name:<24}{trials:<14}" + "".join(f"{v:>10.3f}" for v in values), flush=True)


def memory(space: SearchSpace, folder: Path, name: str, trials: int) -> None:
    """Print the resident memory every `MEMORY_STEP` trials and its growth since the first of these."""
    first = 0.0
    begun = time.perf_counter()

    def on_trial(done: int) -> None:
        nonlocal first
        if done == 0 or done % MEMORY_STEP:
            return
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        first = first or resident
        growth = (resident - first) / max(done - MEMORY_STEP, 1)
        ms = (time.perf_counter() - begun) * 1e3 / done
        print(f"{name:<12}{done:>8} {resident / 2**20:>8.1f} MiB {growth:>7.0f} bytes/trial {ms:>7.2f} ms", flush=True)

    run_search(space, folder, name, trials, Clock(), on_trial)


def optuna_alone(space: SearchSpace, sampler: optuna.samplers.BaseSampler, trials: int, storage: str | None) -> None:
    """Print milliseconds a trial of Optuna's ask and tell, over the last half of the trials."""
    distributions: dict[str, BaseDistribution] = {
        g.name: CategoricalDistribution(tuple(range(len(g.choices)))) for g in space.genes
    }
    study = optuna.create_study(direction="maximize", sampler=sampler, storage=storage)
    clock, half = Clock(), trials // 2
    for n in range(trials):
        if n == half:
            clock, cpu = Clock(), time.process_time()
        with clock.timed("ask"):
            trial = study.ask(distributions)
        with clock.timed("tell"):
            study.tell(trial, accuracy_of(tuple(trial.params[g.name] for g in space.genes)))
    name = f"Optuna {type(sampler).__name__.removesuffix('Sampler')}, {'SQLite' if storage else 'memory'}"
    each = 1e3 / (trials - half)
    ask, tell = clock.seconds["ask"] * each, clock.seconds["tell"] * each
    print_row(name, f"{half}-{trials - 1}", [ask, 0.0, tell, 0.0, ask + tell, (time.process_time() - cpu) * each])


def commit_ms(folder: Path) -> float:
    """Median time of a 4 KiB append that is on the disk when it returns: what durable costs here, two a trial."""
    times = []
    with (folder / "probe").open("wb") as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["annealing", "random"])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--memory", action="store_true", help="print the resident memory instead")
    parser.add_argument("--optuna-trials", type=int, default=1_000, help="of TPE and NSGA-II; 0: without Optuna")
    parser.add_argument("--gp-trials", type=int, default=100)
    parser.add_argument("--sqlite-trials", type=int, default=30, help="of Optuna's own SQLite storage")
    args = parser.parse_args()
    space = build_space("light-nas")
    _ = space.compiled.plan  # seconds, once per process: not part of the first trial
    with tempfile.TemporaryDirectory(prefix="lightnas-overhead-") as name:
        folder = Path(name)
        if args.memory:
            for strategy in args.strategies:
                memory(space, folder / strategy, strategy, args.trials)
            return
        print(f"an fsync of 4 KiB in {folder}: {commit_ms(folder):.3f} ms")
        print(f"{'ms a trial':<24}{'trials':<14}" + "".join(f"{h:>10}" for h in (*PARTS, "rest", "total", "CPU")))
        for strategy in args.strategies:
            overhead(space, folder / strategy, strategy, args.trials)
        if not args.optuna_trials:
            return
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        samplers = optuna.samplers
        optuna_alone(space, samplers.TPESampler(multivariate=True, seed=0), args.optuna_trials, None)
        optuna_alone(space, samplers.NSGAIISampler(seed=0), args.optuna_trials, None)
        optuna_alone(space, samplers.GPSampler(seed=0), args.gp_trials, None)
        if args.sqlite_trials:
            storage = f"sqlite:///{folder}/optuna.sqlite3"
            optuna_alone(space, samplers.RandomSampler(seed=0), args.sqlite_trials, storage)


if __name__ == "__main__":
    main()
