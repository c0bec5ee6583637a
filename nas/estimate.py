"""How long a search will take, from the first epochs of a few candidates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.candidates import Candidates
from nas.errors import SearchError
from nas.executor import Executor, Outcome, Report, Step, Task
from nas.objective import Budget
from nas.space import SearchSpace
from nas.strategy import rng

_TICK_S = 0.5
_DRY_RUN = 3  # role of its random numbers: no trial's


@dataclass(frozen=True)
class Estimate:
    """What a search is going to cost.

    Attributes:
        trial_seconds: per candidate timed, of its whole evaluation while `parallel` run at once.
        hours: of the whole search.
        failures: reasons why candidates failed.
    """

    trial_seconds: tuple[float, ...]
    hours: float
    failures: tuple[str, ...]


def estimate(
    space: SearchSpace,
    budgets: Sequence[Budget],
    build: Callable[[Path], Executor],
    *,
    trials: int,
    parallel: int,
    seed: int = 0,
    candidates: int = 3,
) -> Estimate:
    """Time random candidates for an epoch and scale to the search.

    Each is stopped after its second report: a first step also starts a process and loads the data, which a search
    pays once per process. Nothing is kept of it.

    Args:
        space: what is searched.
        budgets: hard limits.
        build: an executor with `parallel` slots, given a scratch folder; closed here.
        trials: of the search.
        parallel: trials in flight.
        seed: of the candidates.
        candidates: how many to time; at least `parallel`, so that the timed trials share the machine as all will.

    Raises:
        ImpossibleBudget: nothing keeps the budgets.
        SearchError: none could be evaluated.
    """
    pool = Candidates(space, budgets)
    clocks: dict[int, _Clock] = {}
    failures: list[str] = []
    with TemporaryDirectory(prefix="lightnas-dry-run-") as scratch:
        executor = build(Path(scratch))
        try:
            waiting = list(range(max(candidates, parallel)))
            running: set[int] = set()
            while waiting or running:
                while waiting and len(running) < parallel:
                    number = waiting.pop(0)
                    row = pool.sample(rng(seed, number, _DRY_RUN))
                    clocks[number] = _Clock(time.monotonic())
                    running.add(number)
                    encoding = tuple(row.tolist())
                    executor.submit(Task(number, encoding, seed, Path(scratch) / str(number)))
                for report in executor.wait(_TICK_S):
                    if report.number in running and clocks[report.number].hear(report):
                        running.discard(report.number)
                        executor.cancel(report.number)
                        if isinstance(report, Outcome) and isinstance(report.result, str):
                            failures.append(report.result)
                            del clocks[report.number]
        finally:
            executor.close()
    if not clocks:
        raise SearchError(f"no candidate could be evaluated: {failures[0]}")
    seconds = tuple(clock.trial_seconds for clock in clocks.values())
    start_up = max(clock.start_up for clock in clocks.values())
    hours = (start_up + sum(seconds) / len(seconds) * trials / min(parallel, trials)) / 3600
    return Estimate(seconds, hours, tuple(failures))


class _Clock:
    """When a trial's first two steps, or its end, were heard."""

    def __init__(self, started: float) -> None:
        self.started = self.first = self.second = started
        self.heard, self.steps = 0, 1

    def hear(self, report: Report) -> bool:
        """Note a report; True once enough is known."""
        now = time.monotonic()
        if isinstance(report, Step):
            self.heard, self.steps = self.heard + 1, report.progress.steps
            if self.heard == 1:
                self.first = now
        self.second = now
        if isinstance(report, Outcome) and self.heard == 0:
            self.first = now
        return isinstance(report, Outcome) or self.heard >= 2

    @property
    def pace(self) -> float:
        """Seconds a step: the second's, or the first's where there is no other."""
        return self.second - self.first if self.heard >= 2 else self.first - self.started

    @property
    def start_up(self) -> float:
        """What the first step took beyond the pace: a process's imports and data, once per process."""
        return max(0.0, self.first - self.started - self.pace)

    @property
    def trial_seconds(self) -> float:
        """Of a whole trial in a process that runs already."""
        return self.steps * self.pace
