"""SearchSpec: everything that decides a search's trials, as plain values. What a user submits, and what is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from api.errors import OptionError
from nas.objective import METRICS, MNASNET_EXPONENT, HardReward, Reward, SoftReward
from nas.rungs import Rungs
from nas.spaces.recipe import SpaceSpec

REWARDS = ("hard", "soft")
_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DATA_PATHS = ("folder", "cifar10", "npz")
"""Kinds of data that are files."""


@dataclass(frozen=True)
class SearchSpec:
    """What is searched, how, and for how long.

    Attributes:
        space: the search space.
        budgets: metric (`latency_ms`, `flops`, `params`, `model_mb`, `peak_memory_mb`) -> largest allowed value.
        strategy: its name.
        strategy_options: JSON keyword arguments of the strategy.
        evaluator: its name.
        evaluator_options: JSON keyword arguments of the evaluator; `data` names the pictures of a training.
        trials: how many.
        parallel: how many at once; part of the spec, because proposals depend on it.
        seed: decides all randomness.
        reward: `hard` (the accuracy; latency is a limit) or `soft` (MnasNet's; latency is a target).
        reward_exponent: of the soft reward.
        confidence: with which a network keeps its latency budget when measured: the budget holds for the upper end of
            the prediction's interval. None: for the prediction itself.
        rungs: epochs after which a trial must be among the best 1/eta to go on; empty: every trial goes to its end.
        eta: see `rungs`.
        front: the metric whose whole front of reward against cost is searched, instead of one network inside budgets.
        stop_when: the search ends once it expects to be so little below the best network, in units of reward.
        earlier: `search` (its id) and `trials` (how many of its first ones) that the strategy learns from before it
            begins.

    Raises:
        OptionError: values that cannot be, or do not go together.
        SearchError: rungs that cannot be.
    """

    space: SpaceSpec
    budgets: Mapping[str, float] = field(default_factory=dict)
    strategy: str = "guided"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    evaluator: str = "training"
    evaluator_options: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 100
    parallel: int = 1
    seed: int = 0
    reward: str = "hard"
    reward_exponent: float = MNASNET_EXPONENT
    confidence: float | None = None
    rungs: tuple[int, ...] = ()
    eta: float = 3.0
    front: str | None = None
    stop_when: float | None = None
    earlier: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        for metric, limit in self.budgets.items():
            if metric not in METRICS:
                raise OptionError(f"no budget {metric!r}; there are {', '.join(METRICS)}")
            if not limit > 0 or limit == float("inf"):
                raise OptionError(f"the budget {metric} must be a positive number, not {limit:g}")
        for name in ("trials", "parallel"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"seed must be from 0 to 2^63 - 1, not {self.seed}")
        if self.confidence is not None and not 0.5 <= self.confidence <= 0.999:
            raise OptionError(f"confidence must be from 0.5 to 0.999, not {self.confidence:g}")
        if self.reward not in REWARDS:
            raise OptionError(f"no reward {self.reward!r}; there are {', '.join(REWARDS)}")
        if self.reward == "soft" and "latency_ms" not in self.budgets:
            raise OptionError("the soft reward needs a latency to aim at: give --latency-ms")
        self.build_rungs()
        if self.front is not None and self.front not in METRICS:
            raise OptionError(f"no metric {self.front!r} for a front; there are {', '.join(METRICS)}")
        if self.stop_when is not None and not 0 < self.stop_when < 1:
            raise OptionError(f"stop-when must be between 0 and 1, in units of accuracy, not {self.stop_when:g}")
        for option, value in (("front", self.front), ("stop-when", self.stop_when)):
            if value is not None and self.strategy != "guided":
                raise OptionError(f"--{option} needs what only the strategy guided knows; {self.strategy} cannot")
        if self.front is not None and self.stop_when is not None:
            raise OptionError("--stop-when judges the one best network, not a front; give --stop-when or --front")
        if self.front == "latency_ms" and self.reward == "soft":
            raise OptionError("the soft reward holds the latency already; search a front of it with --reward hard")

    @property
    def data(self) -> str | None:
        """The data spec of a training, if there is one."""
        found = self.evaluator_options.get("data")
        return None if found is None else str(found)

    @property
    def hard_budgets(self) -> dict[str, float]:
        """The limits no trial may exceed: all, except the latency a soft reward aims at."""
        return {k: v for k, v in self.budgets.items() if self.reward == "hard" or k != "latency_ms"}

    def build_reward(self) -> Reward:
        """The reward."""
        if self.reward == "soft":
            return SoftReward(self.budgets["latency_ms"], self.reward_exponent)
        return HardReward()

    def build_rungs(self) -> Rungs:
        """Where the worse trials are stopped."""
        return Rungs(self.rungs, self.eta)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the inverse of `from_dict`."""
        return {**asdict(self), "space": self.space.to_dict(), "rungs": list(self.rungs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpec:
        """The inverse of `to_dict`; what specs stored by earlier versions lack has its default."""
        space, rungs = SpaceSpec.from_dict(data["space"]), tuple(data.get("rungs", ()))
        return cls(**{**data, "space": space, "rungs": rungs})


def check_name(name: str) -> str:
    """A name for a search.

    Raises:
        OptionError: it has other characters, or is a number, which would be mistaken for a search's id.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"search name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit, "
            "not only digits"
        )
    return name


def absolute_data(spec: str) -> str:
    """A data spec whose path, if it has one, does not depend on the current folder."""
    kind, colon, path = spec.partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}" if colon and kind in DATA_PATHS and path else spec


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts -> a mapping; a value that reads as JSON is that, any other is text.

    Raises:
        OptionError: there is no `=`.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise OptionError(f"option {pair!r} is not of the form key=value")
        try:
            out[key] = json.loads(text)
        except ValueError:
            out[key] = text
    return out
