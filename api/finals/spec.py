"""FinalSpec: what a final training is asked, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from api.errors import OptionError
from api.plans.spec import SearchSpec
from api.settings import Settings
from nas.training.recipe import FINAL

BASELINES = ("mobilenetv2", "shufflenetv2")
"""The spaces of the families a search is compared with."""


@dataclass(frozen=True)
class FinalSpec:
    """Which networks are trained to the end, and how.

    Attributes:
        top: so many of the search's best networks.
        seeds: trainings of each network; all networks have the same seeds.
        baselines: families (spaces of `width` and `resolution`) whose members inside the budgets are trained too.
        per_family: at most so many of each, those of most FLOPs.
        options: of the evaluator `training`; they win over the search's own, which win over `FINAL`.
        parallel: trainings at once.
        passes: runs of each network on the board; None: as many as it needs.

    Raises:
        OptionError: a number that cannot be.
    """

    top: int = 5
    seeds: int = 1
    baselines: tuple[str, ...] = BASELINES
    per_family: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 1
    passes: int | None = None

    def __post_init__(self) -> None:
        for name in ("top", "seeds", "parallel", "per_family"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")


def final_options(search: SearchSpec, given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The evaluator's options of a final training.

    Raises:
        OptionError: the search did not train on pictures, so there is nothing to train on.
    """
    if search.evaluator != "training":
        raise OptionError(
            f"the search looked accuracies up (evaluator {search.evaluator}); only networks searched with --evaluator "
            "training can be trained to the end"
        )
    own = {name: value for name, value in search.evaluator_options.items() if name not in ("epochs", "inherit")}
    options = {**asdict(FINAL), **own, **given}
    options.setdefault("cache_dir", str(settings.home / "cache" / "pictures"))
    return options
