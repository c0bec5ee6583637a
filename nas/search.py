"""The search: ask, log, evaluate, log, tell. It can be killed at any moment and goes on as if it had not been."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from nas.cost import CostModel
from nas.errors import InvalidEncoding, SearchError, SpaceExhausted
from nas.evaluator import Progress
from nas.executor import Executor, Outcome, Report, Step, Task
from nas.kinship import Parents
from nas.objective import Budget, HardReward, Reward
from nas.rungs import Ladder, Rungs
from nas.space import Encoding, SearchSpace
from nas.strategy import Beliefs, Role, Strategy, seed32
from nas.trial import Trial, TrialLog, TrialState

HOPELESS = 5  # failures, and no success ever, after which a search gives up
GRACE_S = 60.0  # for a running trial to reach its next checkpoint when the search is stopped
_BELIEFS = 3  # trials whose expected regrets are averaged
_TICK_S = 0.5  # how often a stop is looked for


class Stopped(StrEnum):
    """Why a search ended: its trials are made, nothing is left to try, or it is sure enough of its result.

    All but these three can be continued from the log.
    """

    DONE = "done"
    EXHAUSTED = "exhausted"
    SURE = "sure"
    TIME = "time"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class TrialStarted:
    """A trial is in the log and handed to the executor; `resumed` if an earlier process had begun it."""

    trial: Trial
    resumed: bool = False


@dataclass(frozen=True)
class TrialStep:
    """A running trial told how far it is."""

    number: int
    progress: Progress


@dataclass(frozen=True)
class TrialEnded:
    """A trial is complete, pruned or failed, and in the log."""

    trial: Trial


SearchEvent = TrialStarted | TrialStep | TrialEnded


@dataclass(frozen=True)
class SearchResult:
    """What a search came to, earlier processes included.

    Attributes:
        trials: in the log, running ones included.
        complete: evaluated to the end.
        pruned: stopped at a rung.
        failed: without an accuracy.
        best: the complete trial of the highest reward, the earliest of equals; None if there is none.
        beliefs: what the strategy thinks of it in the end, if it thinks.
        stopped: why it ended.
        seconds: of this process.
    """

    trials: int
    complete: int
    pruned: int
    failed: int
    best: Trial | None
    beliefs: Beliefs | None
    stopped: Stopped
    seconds: float


class Search:
    """Makes trials until there are `trials` of them in the log.

    Trial n is proposed when exactly the trials 0 … n−parallel have been told, in number order, whatever order they
    end in. A trial is in the log as started before its evaluation begins, and as finished before the strategy learns
    of it. Memory: the strategy's, plus trials in flight.

    Args:
        space: what is searched.
        strategy: of the space and the budgets; fresh, it is rebuilt from the log.
        executor: evaluates; closed at the end of `run`.
        log: where the trials are; an earlier process's trials are continued.
        trials: how many there will be.
        budgets: checked once more before a trial exists.
        costs: metric -> model, noted with each trial.
        reward: of accuracy and costs.
        stop_when: no further trial once the strategy expects to be so little below the best network of all, in units
            of reward (`Strategy.beliefs`), on average over its last three proposals.
        rungs: where the worse trials are stopped; by default nowhere. The evaluator must report those steps
            (`Rungs.check`).
        inherit: each trial is told the trial that is most like it among those the strategy knows, to start from its
            weights (`Task.parent`); kept in the trial's extras as `parent`.
        parallel: trials in flight.
        seed: of the evaluations, with the trial's number.
        workdir: a folder `N` below it belongs to trial N.
        on_event: hears of each start, step and end, in this thread.
        should_stop: asked about twice a second.
        max_seconds: of this process; then it stops cleanly.
        grace_s: how long a stop waits for running trials to reach a checkpoint.
    """

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy,
        executor: Executor,
        log: TrialLog,
        *,
        trials: int,
        workdir: Path,
        budgets: Sequence[Budget] = (),
        costs: Mapping[str, CostModel] | None = None,
        reward: Reward | None = None,
        stop_when: float | None = None,
        rungs: Rungs | None = None,
        inherit: bool = False,
        parallel: int = 1,
        seed: int = 0,
        on_event: Callable[[SearchEvent], None] = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
        max_seconds: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        if trials < 1 or parallel < 1:
            raise SearchError(f"a search needs at least 1 trial and 1 at a time, not {trials} and {parallel}")
        self.space, self.strategy, self.executor, self.log = space, strategy, executor, log
        self.trials, self.parallel, self.seed, self.workdir = trials, parallel, seed, workdir
        self.budgets, self.reward = tuple(budgets), reward or HardReward()
        self.costs = {b.metric: b.cost for b in budgets} | dict(costs or {})
        self._on_event, self._should_stop = on_event, should_stop
        self._max_seconds, self._grace_s = max_seconds, grace_s
        self._stop_when = stop_when
        self._expected_regrets: deque[float] = deque(maxlen=_BELIEFS)
        self._asked = 0  # the next trial to ask for
        self._told = 0  # the next trial to tell
        self._running: dict[int, Trial] = {}
        self._finished: dict[int, Trial] = {}  # in the log, not yet told
        self._ladder = Ladder(rungs or Rungs())  # knows what the strategy knows
        self._parents = Parents() if inherit else None
        self._best: Trial | None = None
        self._complete = self._pruned = self._failed = self._failed_here = 0

    def run(self) -> SearchResult:
        """Search; returns when the trials are made, nothing is left to try, or it was stopped (Ctrl-C included).

        Raises:
            SearchError: the log cannot be continued, no trial can be evaluated, or the first ones all failed.
        """
        started = time.monotonic()
        try:
            stopped = self._loop(started)
            if stopped in (Stopped.TIME, Stopped.STOPPED):
                self._absorb(self.executor.stop(self._grace_s))
        except KeyboardInterrupt:
            stopped = Stopped.INTERRUPTED
            with suppress(KeyboardInterrupt):  # a second Ctrl-C: without waiting
                self._absorb(self.executor.stop(self._grace_s))
        finally:
            self.executor.close()
        if self._failed and not self._complete and stopped in (Stopped.DONE, Stopped.EXHAUSTED, Stopped.SURE):
            raise self._hopeless()
        seconds = time.monotonic() - started
        counts = (self._asked, self._complete, self._pruned, self._failed)
        return SearchResult(*counts, self._best, self.strategy.beliefs(self._asked), stopped, seconds)

    # Parts -----------------------------------------------------------------------------------------------------

    def _loop(self, started: float) -> Stopped:
        self._replay()
        for trial in self._running.values():
            self._submit(trial, resumed=True)
        ended: Stopped | None = None
        while True:
            if self._max_seconds is not None and time.monotonic() - started >= self._max_seconds:
                return Stopped.TIME
            if self._should_stop():
                return Stopped.STOPPED
            while ended is None and self._asked < self.trials and self._may_ask():
                if self._sure():
                    ended = Stopped.SURE
                elif not self._propose():
                    ended = Stopped.EXHAUSTED
            if not self._running:
                self._tell_through(self._asked - 1)
                return ended or Stopped.DONE
            self._absorb(self.executor.wait(_TICK_S))

    def _replay(self) -> None:
        """Rebuild the strategy from the log: every trial restored, and told when it was told."""
        for trial in self.log.load():
            if trial.number != self._asked:
                raise SearchError(f"the log has trial {trial.number} where {self._asked} should be: it is damaged")
            try:
                self.space.row(trial.encoding)
            except InvalidEncoding as e:
                raise SearchError(f"trial {trial.number} of the log is not of this space: {e}") from e
            self._tell_through(trial.number - self.parallel)
            self.strategy.restore(trial)
            self._believed(trial)
            self._asked += 1
            if trial.state is TrialState.RUNNING:
                self._running[trial.number] = trial
            else:
                self._note(trial)

    def _tell_through(self, last: int) -> None:
        while self._told <= last and self._told in self._finished:
            trial = self._finished.pop(self._told)
            self.strategy.tell(trial)
            self._ladder.tell(trial)
            if self._parents is not None:
                self._parents.tell(trial)
            self._told += 1

    def _may_ask(self) -> bool:
        """Tell what the next trial may know; True once it knows all of that, and there is room for it."""
        self._tell_through(self._asked - self.parallel)
        return self._told > self._asked - self.parallel and len(self._running) < self.parallel

    def _propose(self) -> bool:
        """Ask for a trial and start it; False if there is none left."""
        number = self._asked
        try:
            row = self.strategy.ask(number)
        except SpaceExhausted:
            return False
        self._check_budgets(number, row)
        costs = {metric: model.one(row) for metric, model in self.costs.items()}
        attrs, stop_below = self.strategy.attrs(number), self._ladder.stop_below()
        trial = Trial(number, tuple(row.tolist()), costs=costs, attrs=attrs, stop_below=stop_below)
        parent = None if self._parents is None else self._parents.of(trial.encoding)
        if parent is not None:
            trial = replace(trial, extras={"parent": parent})
        self.log.started(trial)
        self._believed(trial)
        self._asked += 1
        self._running[number] = trial
        self._submit(trial, resumed=False)
        return True

    def _believed(self, trial: Trial) -> None:
        """What the strategy expected when it proposed the trial; logged with it, so a resumed search stops there."""
        self._expected_regrets.append(float(trial.attrs.get("expected_regret", math.inf)))

    def _sure(self) -> bool:
        """Whether the strategy expects to miss no more than was asked; one belief rests on few drawn functions."""
        regrets = self._expected_regrets
        return self._stop_when is not None and len(regrets) == _BELIEFS and sum(regrets) / _BELIEFS <= self._stop_when

    def _check_budgets(self, number: int, row: Encoding) -> None:
        for budget in self.budgets:
            if not budget.allows(row[None])[0]:
                raise SearchError(
                    f"the strategy proposed trial {number} with {budget.metric} {budget.cost.one(row):.6g}, over the "
                    f"budget of {budget.limit:g}; this is a mistake of {type(self.strategy).__name__}"
                )

    def _submit(self, trial: Trial, *, resumed: bool) -> None:
        seed = seed32(self.seed, trial.number, Role.EVALUATE)
        self._on_event(TrialStarted(trial, resumed))
        folder = self.workdir / str(trial.number)
        parent = None if "parent" not in trial.extras else self.workdir / str(trial.extras["parent"])
        self.executor.submit(Task(trial.number, trial.encoding, seed, folder, trial.stop_below, parent))

    def _absorb(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if isinstance(report, Step):
                self._on_event(TrialStep(report.number, report.progress))
            else:
                self._end(report)

    def _end(self, outcome: Outcome) -> None:
        trial, result = self._running[outcome.number], outcome.result
        if isinstance(result, str):
            trial = trial.failed(result, outcome.seconds)
        else:
            reward, extras = self.reward(result.accuracy, trial.costs), {**result.extras, **trial.extras}
            if outcome.pruned_at is None:
                trial = trial.complete(result.accuracy, reward, outcome.seconds, extras)
            else:
                trial = trial.pruned(result.accuracy, reward, outcome.pruned_at, outcome.seconds, extras)
        self.log.finished(trial)
        del self._running[trial.number]
        self._note(trial)
        self._on_event(TrialEnded(trial))
        self._failed_here += trial.state is TrialState.FAILED
        if self._failed_here >= HOPELESS and not self._complete:
            raise self._hopeless()

    def _note(self, trial: Trial) -> None:
        """Count a finished trial and keep it until it is told."""
        self._finished[trial.number] = trial
        if trial.state is TrialState.FAILED:
            self._failed += 1
            self._last_error = trial.error
            return
        if trial.state is TrialState.PRUNED:
            self._pruned += 1
            return
        self._complete += 1
        if self._best is None or _rank(trial) > _rank(self._best):
            self._best = trial

    def _hopeless(self) -> SearchError:
        return SearchError(f"all of the first {self._failed} trials failed; the last because: {self._last_error}")


def _rank(trial: Trial) -> tuple[float, int]:
    reward = float("-inf") if trial.reward is None else trial.reward
    return reward, -trial.number
