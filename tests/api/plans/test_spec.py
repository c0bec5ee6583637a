from __future__ import annotations

import json
from typing import Any

import pytest

from api.errors import OptionError
from api.plans.spec import SearchSpec
from nas.spaces.recipe import SpaceSpec

MACRO = SpaceSpec("nas-bench-macro")
# As the first release stored it.
OLD: dict[str, Any] = {
    "space": {"name": "nas-bench-macro", "resolution": [], "classes": None, "channels": None, "text": None},
    "budgets": {"flops": 6e7},
    "strategy": "annealing",
    "strategy_options": {"t0": 3.0},
    "evaluator": "training",
    "evaluator_options": {"data": "digits"},
    "trials": 100,
    "parallel": 2,
    "seed": 7,
    "reward": "hard",
    "reward_exponent": -0.07,
    "confidence": None,
}


def test_specs_of_earlier_versions_load() -> None:
    found = SearchSpec.from_dict(OLD)
    assert (found.strategy, found.budgets, found.parallel, found.seed) == ("annealing", {"flops": 6e7}, 2, 7)
    assert (found.front, found.stop_when, found.earlier, found.rungs) == (None, None, None, ())
    assert {k: found.to_dict()[k] for k in OLD} == OLD


def test_specs_survive_json() -> None:
    earlier = {"search": 3, "trials": 12}
    for spec in (
        SearchSpec(MACRO),
        SearchSpec(MACRO, {"flops": 6e7}, front="params", earlier=earlier),
        SearchSpec(MACRO, stop_when=0.002, rungs=(1, 2), earlier=earlier),
    ):
        assert SearchSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_what_does_not_go_together_is_told() -> None:
    assert SearchSpec(MACRO).strategy == "guided"
    for strategy in ("annealing", "random", "tpe"):
        for wrong in ({"front": "flops"}, {"stop_when": 0.1}):
            with pytest.raises(OptionError, match=f"only the strategy guided knows; {strategy} cannot"):
                SearchSpec(MACRO, strategy=strategy, **wrong)
    with pytest.raises(OptionError, match="not a front"):
        SearchSpec(MACRO, front="flops", stop_when=0.1)
    with pytest.raises(OptionError, match="holds the latency already"):
        SearchSpec(MACRO, {"latency_ms": 3.0}, reward="soft", front="latency_ms")
    assert SearchSpec(MACRO, {"latency_ms": 3.0}, reward="soft", front="params").front == "params"
