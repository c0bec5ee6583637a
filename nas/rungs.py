"""Rungs: steps at which the worse trials of a search are stopped.

The stopping form of ASHA (arXiv 1810.05934), made to repeat: what a trial is compared with is settled when it starts,
from exactly the trials that its proposal may know. A trial that passes a rung simply goes on training.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass

from nas.errors import EvaluationError, SearchError
from nas.evaluator import Evaluator, Progress
from nas.trial import Trial

METRIC = "val_accuracy"  # of a step's report: what is compared


@dataclass(frozen=True)
class Rungs:
    """Where trials are stopped, and how many of them.

    Attributes:
        steps: of an evaluation (epochs), rising; empty: no trial is ever stopped.
        eta: the best 1/eta of the trials at a rung go on.

    Raises:
        SearchError: a value makes no sense; names it.
    """

    steps: tuple[int, ...] = ()
    eta: float = 3.0

    def __post_init__(self) -> None:
        if any(type(step) is not int or step < 1 for step in self.steps) or list(self.steps) != sorted(set(self.steps)):
            text = ",".join(map(str, self.steps))
            raise SearchError(f"rungs are {text}; they must be rising numbers of epochs from 1 on, e.g. 2,4")
        if not 1 < self.eta < math.inf:
            raise SearchError(f"eta is {self.eta:g}; it must be above 1: the best 1/eta of the trials go on")

    def check(self, evaluator: Evaluator) -> None:
        """Raises SearchError where the evaluator has no such steps."""
        if not self.steps:
            return
        if not evaluator.steps:
            raise SearchError(
                f"evaluator {evaluator.name} reports no steps to stop a trial at; search without rungs, or with an "
                "evaluator that trains"
            )
        if self.steps[-1] >= evaluator.steps:
            raise SearchError(
                f"the rung at epoch {self.steps[-1]} stops nothing, because an evaluation ends after "
                f"{evaluator.steps}; put rungs before epoch {evaluator.steps}, or train for more epochs"
            )


class Ladder:
    """What the trials told so far reached at each rung: 8 bytes a trial and rung.

    Args:
        rungs: of the search.
    """

    def __init__(self, rungs: Rungs) -> None:
        self._eta, self._needed = rungs.eta, math.ceil(rungs.eta)
        self._values: dict[str, list[float]] = {str(step): [] for step in rungs.steps}  # each list sorted

    def tell(self, trial: Trial) -> None:
        """Learn what a finished trial reached; pruned ones count at the rungs they reached."""
        reached = trial.extras.get("rungs", {})
        for step, values in self._values.items():
            if step in reached:
                insort(values, reached[step])

    def stop_below(self) -> dict[str, float | None]:
        """Step -> accuracy a trial started now must have there: the quantile 1 − 1/eta of the values known.

        None while fewer than ceil(eta) values are known. Quantiles are interpolated linearly, as numpy does.
        """
        return {step: self._threshold(values) for step, values in self._values.items()}

    def _threshold(self, values: list[float]) -> float | None:
        if len(values) < self._needed:
            return None
        # The product first: where the quantile falls on a value it must be that value, or ties would be stopped.
        place = (len(values) - 1) * (self._eta - 1) / self._eta
        below = math.floor(place)
        low, high = values[below], values[min(below + 1, len(values) - 1)]
        return low + (place - below) * (high - low)


class Stop(BaseException):
    """Ends an evaluation from inside its report; no `except Exception` on the way takes it for a failure."""


class Climb:
    """One trial on its way from rung to rung, where it is evaluated.

    Args:
        stop_below: the trial's.
        evaluator: its name, for messages.

    Attributes:
        reached: step -> accuracy at the rungs so far.
        stopped_at: the step at which it was too bad.
    """

    def __init__(self, stop_below: Mapping[str, float | None], evaluator: str) -> None:
        self._ahead = {int(step): limit for step, limit in stop_below.items()}
        self._evaluator = evaluator
        self.reached: dict[str, float] = {}
        self.stopped_at: int | None = None

    def hear(self, progress: Progress) -> None:
        """Take a step's report; a step heard before changes nothing.

        Raises:
            Stop: the trial is below the threshold of this step.
            EvaluationError: the accuracy is none.
            SearchError: the evaluator passed a rung without telling how good it was there.
        """
        if self._ahead and progress.step >= (step := min(self._ahead)):
            accuracy = progress.metrics.get(METRIC)
            if progress.step > step or accuracy is None:
                raise self._missed(step)
            if not 0.0 <= accuracy <= 1.0:
                raise EvaluationError(
                    f"evaluator {self._evaluator} reported the accuracy {accuracy} at step {step}, outside [0, 1]"
                )
            limit = self._ahead.pop(step)
            self.reached[str(step)] = float(accuracy)
            if limit is not None and accuracy < limit:
                self.stopped_at = step
                raise Stop

    def finish(self) -> None:
        """The evaluation has ended. Raises SearchError if it left a rung out."""
        if self._ahead:
            raise self._missed(min(self._ahead))

    def _missed(self, step: int) -> SearchError:
        return SearchError(
            f"evaluator {self._evaluator} did not report {METRIC} at step {step}, where the search has a rung; it must "
            "report each step, and after resuming the earlier ones again"
        )
