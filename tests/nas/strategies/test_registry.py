from __future__ import annotations

import subprocess
import sys

import pytest

from nas.errors import NasError, UnknownPlugin
from nas.space import SearchSpace
from nas.strategies import build_strategy, strategy_names
from nas.strategies.annealing import Annealing


def test_names_build_and_unknown_ones_list_what_there_is(macro: SearchSpace) -> None:
    for name in strategy_names():
        assert build_strategy(name, macro).ask(0).shape == (8,)
    assert build_strategy("optuna:tpe", macro).ask(0).tolist() == build_strategy("tpe", macro).ask(0).tolist()
    with pytest.raises(
        UnknownPlugin, match=r"no strategy 'anealing'; there are guided, annealing, random, tpe, nsga2, gp"
    ):
        build_strategy("anealing", macro)
    with pytest.raises(UnknownPlugin, match="optuna:cmaes"):
        build_strategy("optuna:cmaes", macro)


def test_options_reach_the_strategy_and_wrong_ones_are_told(macro: SearchSpace) -> None:
    strategy = build_strategy("annealing", macro, theta=0.5)
    assert isinstance(strategy, Annealing)
    assert strategy.theta == 0.5
    with pytest.raises(NasError, match="strategy random cannot be built with theta"):
        build_strategy("random", macro, theta=0.5)


@pytest.mark.parametrize("name", ["guided", "annealing"])
def test_ours_need_no_optuna(name: str) -> None:
    code = (
        "import sys; from nas.spaces import build_space; from nas.strategies import build_strategy;"
        f"build_strategy({name!r}, build_space('nas-bench-macro')).ask(0);"
        "sys.exit('optuna' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
