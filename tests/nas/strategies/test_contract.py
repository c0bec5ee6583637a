from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.contracts import check_strategy, play, smooth_objective
from nas.cost import flops_model
from nas.objective import Budget
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies import build_strategy

MACRO = build_space("nas-bench-macro")
SMALL = build_space("mobilenetv2-small")
FLOPS = {s.name: flops_model(s) for s in (MACRO, SMALL)}
TRIALS = {"guided": 24, "annealing": 40, "random": 40, "tpe": 24, "nsga2": 45, "gp": 12}


def budget(space: SearchSpace, share: float) -> list[Budget]:
    return [Budget("flops", share * FLOPS[space.name].maximum()[0], FLOPS[space.name])]


@pytest.mark.parametrize("name", TRIALS)
def test_every_strategy_keeps_the_contract(name: str) -> None:
    budgets = budget(MACRO, 0.5)
    parallel = (2,) if name == "gp" else (1, 3)  # GP takes a tenth of a second a proposal
    check_strategy(
        lambda: build_strategy(name, MACRO, budgets, 3), MACRO, budgets, trials=TRIALS[name], parallel=parallel
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_every_strategy_keeps_the_contract_in_a_large_space(name: str) -> None:
    budgets = budget(SMALL, 0.1)
    check_strategy(lambda: build_strategy(name, SMALL, budgets, 4), SMALL, budgets, trials=TRIALS[name])


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["guided", "annealing", "random", "tpe", "nsga2"]),
    st.sampled_from([0.35, 0.7, 1.0]),
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.sets(st.integers(0, 14), max_size=4),
)
def test_killed_anywhere_it_goes_on_the_same(
    name: str, share: float, seed: int, parallel: int, kills: set[int]
) -> None:
    budgets, objective = budget(MACRO, share), smooth_objective(MACRO)
    made = play(lambda: build_strategy(name, MACRO, budgets, seed), objective, 15, parallel=parallel)
    again = play(
        lambda: build_strategy(name, MACRO, budgets, seed), objective, 15, parallel=parallel, rebuild_before=kills
    )
    assert again == made
    rows = MACRO.validate([t.encoding for t in made])
    assert len({r.tobytes() for r in MACRO.canonical(rows)}) == 15
    assert budgets[0].allows(rows).all()


@pytest.mark.parametrize("name", ["guided", "annealing", "random", "tpe", "nsga2", "gp"])
def test_an_exhausted_space_ends_after_its_last_network(name: str) -> None:
    cost = FLOPS[MACRO.name]
    budgets = [Budget("flops", cost.minimum()[0] + 0.1 * (cost.maximum()[0] - cost.minimum()[0]), cost)]
    made = play(lambda: build_strategy(name, MACRO, budgets, 0), smooth_objective(MACRO), 100)
    assert len(made) == 12


def test_another_seed_makes_other_trials() -> None:
    for name in ("guided", "annealing", "random", "tpe"):
        runs = [play(lambda: build_strategy(name, MACRO, (), seed), smooth_objective(MACRO), 5) for seed in (0, 1)]  # noqa: B023
        assert runs[0] != runs[1]
