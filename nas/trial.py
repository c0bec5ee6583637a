"""Trial: one proposal with its result, and the log that keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol


class TrialState(StrEnum):
    """Where a trial stands. `pruned`: stopped at a rung, with the accuracy it had there; never the best of a search."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One proposal with its result; immutable, each change of state is a new value.

    Attributes:
        number: 0, 1, 2, … within its search; with the search's seed it decides all randomness of the trial.
        encoding: the genes' choice indices.
        state: running, complete, pruned or failed.
        accuracy: on the validation pictures, in [0, 1]; None unless complete or pruned.
        reward: what the strategy maximises; None unless complete or pruned.
        costs: metric -> predicted value (`flops`, `params`, `latency_ms`), known before the trial starts.
        seconds: wall time of the evaluation, all attempts of this process.
        extras: JSON of the evaluator (`epochs`, `history`, …); `rungs` holds step -> accuracy at the rungs reached.
        attrs: JSON of the strategy; with it a strategy is rebuilt by telling it the logged trials.
        error: why it failed.
        stop_below: rung (a step, as text) -> accuracy below which the trial ends there; None: it passes. Settled when
            the trial starts.
    """

    number: int
    encoding: tuple[int, ...]
    state: TrialState = TrialState.RUNNING
    accuracy: float | None = None
    reward: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    extras: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    stop_below: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def pruned_at(self) -> int | None:
        """The step at which the trial was stopped at a rung, if it was."""
        return int(self.extras["pruned_at"]) if self.state is TrialState.PRUNED else None

    def complete(self, accuracy: float, reward: float, seconds: float, extras: Mapping[str, Any]) -> Trial:
        """This trial with its result."""
        return replace(
            self, state=TrialState.COMPLETE, accuracy=accuracy, reward=reward, seconds=seconds, extras=extras
        )

    def pruned(self, accuracy: float, reward: float, step: int, seconds: float, extras: Mapping[str, Any]) -> Trial:
        """This trial, stopped at a rung with what it had reached there."""
        found = self.complete(accuracy, reward, seconds, {**extras, "pruned_at": step})
        return replace(found, state=TrialState.PRUNED)

    def failed(self, error: str, seconds: float) -> Trial:
        """This trial, given up."""
        return replace(self, state=TrialState.FAILED, error=error, seconds=seconds)


class TrialLog(Protocol):
    """Where a search keeps its trials. Every method is durable before it returns."""

    def load(self) -> Iterator[Trial]:
        """All trials in number order; an iterator, so that memory stays flat."""

    def started(self, trial: Trial) -> None:
        """Record a running trial. Recording the same number again is an error of the caller."""

    def finished(self, trial: Trial) -> None:
        """Replace a running trial by its completed, pruned or failed form."""


class MemoryTrialLog:
    """A TrialLog for benchmarks and tests: nothing survives the process."""

    def __init__(self, trials: Iterable[Trial] = ()) -> None:
        self.trials = {t.number: t for t in trials}

    def load(self) -> Iterator[Trial]:
        """All trials in number order."""
        return iter([self.trials[n] for n in sorted(self.trials)])

    def started(self, trial: Trial) -> None:
        """Record a running trial."""
        if trial.number in self.trials:
            raise ValueError(f"trial {trial.number} was started twice")
        self.trials[trial.number] = trial

    def finished(self, trial: Trial) -> None:
        """Replace a running trial."""
        self.trials[trial.number] = trial
