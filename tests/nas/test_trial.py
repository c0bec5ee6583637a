from __future__ import annotations

import pytest

from nas.trial import MemoryTrialLog, Trial, TrialState


def test_a_trial_changes_by_new_values() -> None:
    trial = Trial(3, (1, 2), costs={"flops": 5.0}, attrs={"a": 1})
    done = trial.complete(0.5, 0.4, 2.0, {"epochs": 1})
    assert trial.state is TrialState.RUNNING
    assert (done.state, done.accuracy, done.reward, done.extras) == (TrialState.COMPLETE, 0.5, 0.4, {"epochs": 1})
    assert (done.number, done.encoding, done.costs, done.attrs) == (3, (1, 2), {"flops": 5.0}, {"a": 1})
    pruned = trial.pruned(0.3, 0.2, 4, 1.0, {"rungs": {"4": 0.3}})
    assert (pruned.state, pruned.accuracy, pruned.reward, pruned.pruned_at) == (TrialState.PRUNED, 0.3, 0.2, 4)
    assert pruned.extras == {"rungs": {"4": 0.3}, "pruned_at": 4}
    assert trial.pruned_at is done.pruned_at is None
    failed = trial.failed("why", 1.0)
    assert (failed.state, failed.error, failed.accuracy) == (TrialState.FAILED, "why", None)


def test_the_memory_log_keeps_number_order_and_refuses_a_second_start() -> None:
    log = MemoryTrialLog()
    for number in (1, 0):
        log.started(Trial(number, (0,)))
    log.finished(Trial(1, (0,)).failed("x", 0.0))
    assert [(t.number, t.state) for t in log.load()] == [(0, TrialState.RUNNING), (1, TrialState.FAILED)]
    with pytest.raises(ValueError, match="twice"):
        log.started(Trial(0, (0,)))
