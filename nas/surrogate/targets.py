"""From trials to what a Gaussian process can learn: targets without long tails, and pruned trials put on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.space import Encoding
from nas.trial import Trial, TrialState

Floats = NDArray[np.float64]

_PAIRS = 4  # complete trials with a rung's value, from which a line to their rewards is fitted; fewer: a shift
_SMALLEST = 1e-9
_NONE: Mapping[str, float] = {}  # one for all trials without rungs


@dataclass(frozen=True, slots=True)
class Told:
    """What a strategy keeps of a finished trial: about 250 bytes.

    Attributes:
        number: of the trial; -1 for a trial of an earlier search.
        row: canonical (genes,).
        reward: of the trial, or at the rung where it was stopped.
        pruned_at: that rung's step, or None.
        rungs: step -> the reward it would have had there.
    """

    number: int
    row: Encoding
    reward: float
    pruned_at: int | None
    rungs: Mapping[str, float]

    @classmethod
    def of(cls, trial: Trial, row: Encoding, *, earlier: bool = False) -> Told | None:
        """None for a trial without a reward."""
        if trial.reward is None or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return None
        # Rungs compare accuracies; what is modelled are rewards.
        scale = trial.reward / trial.accuracy if trial.accuracy else 1.0
        rungs = {step: value * scale for step, value in trial.extras.get("rungs", {}).items()} or _NONE
        return cls(-1 if earlier else trial.number, row, trial.reward, trial.pruned_at, rungs)

    @property
    def eligible(self) -> bool:
        """Whether it may be recommended: a complete trial of this search."""
        return self.pruned_at is None and self.number >= 0


@dataclass(frozen=True)
class Targets:
    """Rewards as targets: t = -log(1 + (best - reward) / spread), then mean 0 and variance 1.

    Bad networks are far below all others; the logarithm of the loss keeps them from deciding what is thought of good
    ones. Its unit is the data's own spread, so any reward will do.

    Attributes:
        y: (n,) targets.
        extra: (n,) variance of each target beyond the noise of an evaluation.
    """

    y: Floats
    extra: Floats
    best: float
    spread: float
    mean: float
    sd: float

    @classmethod
    def of(cls, told: Sequence[Told]) -> Targets:
        """Of at least one trial."""
        rewards, error = _expected_rewards(told)
        best = float(rewards.max())
        low, middle, high = np.quantile(rewards, [0.25, 0.5, 0.75])
        spread = max(high - low, best - middle, _SMALLEST)
        t = -np.log1p((best - rewards) / spread)
        sd = max(float(t.std()), _SMALLEST)
        # d t / d reward at the reward carries its error over.
        slope = 1 / (spread + (best - rewards))
        return cls((t - t.mean()) / sd, (error * slope / sd) ** 2, best, spread, float(t.mean()), sd)

    def reward(self, y: NDArray[np.floating[Any]]) -> Floats:
        """Targets -> rewards."""
        return np.asarray(self.best - self.spread * np.expm1(-(y * self.sd + self.mean)))


def _expected_rewards(told: Sequence[Told]) -> tuple[Floats, Floats]:
    """(n,) rewards, for pruned trials what they would have come to, and (n,) the standard error of that."""
    rewards = np.array([t.reward for t in told])
    error = np.zeros(len(told))
    for step in {t.pruned_at for t in told if t.pruned_at is not None}:
        key = str(step)
        pairs = np.array([(t.rungs[key], t.reward) for t in told if t.pruned_at is None and key in t.rungs])
        at = np.array([i for i, t in enumerate(told) if t.pruned_at == step])
        slope = 1.0
        if len(pairs) >= _PAIRS and np.ptp(pairs[:, 0]) > 0:
            # Those that went on were the best: their slope says less about the others than that there is one.
            slope = float(np.clip(np.polyfit(pairs[:, 0], pairs[:, 1], 1)[0], 0.25, 1.0))
        if len(pairs):
            shift = float((pairs[:, 1] - slope * pairs[:, 0]).mean())
            left = pairs[:, 1] - slope * pairs[:, 0] - shift
            rewards[at] = shift + slope * rewards[at]
            error[at] = max(float(left.std()), 0.1 * float(np.ptp(pairs[:, 1])), _SMALLEST)
    return rewards, error


def memorable(rewards: Floats, most: int) -> NDArray[np.intp]:
    """Which trials are learnt from, at most `most`: the best half, and as many spread over the rest; in order."""
    if len(rewards) <= most:
        return np.arange(len(rewards))
    order = np.argsort(-rewards, kind="stable")
    rest = np.sort(order[most // 2 :])
    spread = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(np.intp)]
    return np.sort(np.concatenate([order[: most // 2], spread]))
