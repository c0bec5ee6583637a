from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

import nas.strategies.guided
from nas.spaces.recipe import SpaceSpec
from nas.strategies import build_strategy
from nas.surrogate.process import Posterior
from nas.trial import Trial, TrialState


def _blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_proposal_takes_one_thread_and_leaves_the_rest_as_it_was(monkeypatch) -> None:
    space = SpaceSpec.of("nas-bench-macro", resolution=(16,)).build()
    strategy = build_strategy("guided", space, (), 0)
    seen: list[set[int]] = []

    def watched(*given: object, **named: object) -> Posterior:
        seen.append(_blas_threads())
        return Posterior(*given, **named)

    monkeypatch.setattr(nas.strategies.guided, "Posterior", watched)
    with threadpool_limits(2, user_api="blas"):
        for number in range(12):
            row = strategy.ask(number)
            reward = float(np.mean(row))
            trial = Trial(number, tuple(map(int, row)), state=TrialState.COMPLETE, accuracy=reward, reward=reward)
            strategy.tell(trial)
        assert strategy.beliefs(12) is not None
        assert _blas_threads() == {2}
    assert seen
    assert all(threads == {1} for threads in seen)
