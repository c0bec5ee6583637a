"""Parents: which earlier trial's weights a new trial may start from."""

from __future__ import annotations

import numpy as np

from nas.trial import Trial, TrialState


class Parents:
    """The trials told so far whose training was finished.

    A trial's parent is the one of them that differs in the fewest genes; of equals the most accurate, then the
    earliest. It follows from the trials told alone, so a search that was killed finds the same again.
    """

    def __init__(self) -> None:
        self._trials: list[tuple[int, float]] = []  # number, accuracy
        self._rows: list[tuple[int, ...]] = []

    def tell(self, trial: Trial) -> None:
        """A finished trial, in number order."""
        if trial.state is TrialState.COMPLETE and trial.accuracy is not None:
            self._trials.append((trial.number, trial.accuracy))
            self._rows.append(trial.encoding)

    def of(self, encoding: tuple[int, ...]) -> int | None:
        """The number of the parent of a trial with this encoding; None if there is no trial yet."""
        if not self._rows:
            return None
        distance = (np.array(self._rows) != np.array(encoding)).sum(1)
        nearest = [self._trials[i] for i in np.flatnonzero(distance == distance.min())]
        return min(nearest, key=lambda t: (-t[1], t[0]))[0]
