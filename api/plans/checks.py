"""What would make every trial of a plan fail, told before the first: wrong options, data that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.errors import OptionError
from api.plans.checkpoints import check_init
from api.plans.plan import Plan
from api.plans.spec import SearchSpec
from api.settings import Settings


def evaluator_options(spec: SearchSpec, settings: Settings) -> dict[str, Any]:
    """The evaluator's options with what depends on this machine."""
    options = dict(spec.evaluator_options)
    if spec.evaluator == "training":
        options.setdefault("cache_dir", str(settings.home / "cache" / "pictures"))
    return options


def check_evaluator(plan: Plan, settings: Settings) -> None:
    """Raises what would make every trial fail: wrong options, data that is missing or does not fit."""
    spec, options = plan.spec, evaluator_options(plan.spec, settings)
    from nas.evaluators import build_evaluator

    spec.build_rungs().check(build_evaluator(spec.evaluator, options))
    if spec.evaluator == "training":
        check_training(plan, options)
        check_init(plan, options)


def check_training(plan: Plan, options: Mapping[str, Any]) -> None:
    """Raises what would make every training fail: wrong options, data that is missing or does not fit."""
    from nas.data import open_data
    from nas.evaluators import build_evaluator

    build_evaluator("training", options)
    data = options.get("data")
    if data is None:
        return
    outputs, classes = plan.space.graph([0] * len(plan.space.genes)).output.shape[0], open_data(str(data)).classes
    if outputs != len(classes):
        raise OptionError(
            f"{data} has {len(classes)} classes, but the networks of {plan.space.name} tell {outputs} apart; "
            f"give --classes {len(classes)}"
        )


def count_classes(data: str) -> int:
    """How many classes a data spec has."""
    from nas.data import open_data

    return len(open_data(data).classes)
