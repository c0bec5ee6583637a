from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.errors import Conflict, NotFound
from api.store import Store
from api.store import evaluations as store_module
from api.store.evaluations import Lease
from api.store.models import evaluations
from nas.errors import EvaluationError, SearchError
from nas.evaluator import Progress
from nas.executor import Task
from nas.trial import Trial


def _search(store: Store, state: str = "running") -> int:
    return store.searches.create({"seed": 0}, space="s", space_digest="d", state=state).id


def _task(number: int = 0, seed: int = 7, **stop_below: float | None) -> Task:
    rungs = {name.removeprefix("at"): limit for name, limit in stop_below.items()}
    return Task(number, (1, 2, number), seed, Path("unused"), rungs)


def _put(store: Store, search: int, *tasks: Task, attempts: int = 3) -> None:
    for task in tasks:
        store.evaluations.put(search, task, attempts=attempts, lease_s=60)


def _lease(store: Store, search: int) -> Lease:
    (lease,) = store.evaluations.lease(search, "a client")
    return lease


def _lapse(store: Store) -> None:
    """All clients were silent for too long."""
    with store.database.write() as c:
        past = store.database.now(c) - dt.timedelta(seconds=1)
        leased = evaluations.c.state == "leased"
        c.execute(sa.update(evaluations).where(leased).values(lease_until=past))


def test_a_trial_is_leased_once_and_told_once(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(1), _task(0))
    assert store.evaluations.waiting(search) == 2
    first, second = store.evaluations.lease(search, "a", 64)
    assert (first.number, first.encoding, first.seed, first.attempt, first.lease_s) == (0, (1, 2, 0), 7, 1, 60)
    assert second.number == 1
    assert store.evaluations.waiting(search) == 0
    assert store.evaluations.lease(search, "b") == []
    store.evaluations.tell(search, 0, first.token, accuracy=0.5, extras={"epochs": 3})
    store.evaluations.tell(search, 0, first.token, accuracy=0.9)  # an answer that was lost: nothing changes
    (standing,) = store.evaluations.standing(search, [0])
    assert standing.outcome is not None
    assert standing.outcome.pop("seconds") >= 0
    assert standing.outcome == {"accuracy": 0.5, "extras": {"epochs": 3}}
    assert [s.outcome for s in store.evaluations.standing(search, [1])] == [None]


def test_a_lost_clients_trial_is_leased_again_and_the_lost_one_refused(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task())
    lost = _lease(store, search)
    store.evaluations.report(search, 0, lost.token, Progress(1, 2, {"val_accuracy": 0.1}))
    _lapse(store)
    again = _lease(store, search)
    assert (again.number, again.attempt, again.seed) == (0, 2, lost.seed)
    assert [s.steps for s in store.evaluations.standing(search, [0])] == [[]]
    for call in (
        lambda: store.evaluations.heartbeat(search, 0, lost.token),
        lambda: store.evaluations.report(search, 0, lost.token, Progress(1, 2)),
        lambda: store.evaluations.tell(search, 0, lost.token, accuracy=0.9),
    ):
        with pytest.raises(Conflict, match="no longer this client's: nothing was heard of it for 60 s"):
            call()
    store.evaluations.tell(search, 0, again.token, accuracy=0.5)
    with pytest.raises(Conflict, match="no longer this client's: the trial has ended without it"):
        store.evaluations.tell(search, 0, lost.token, accuracy=0.9)
    (standing,) = store.evaluations.standing(search, [0])
    assert standing.outcome is not None
    assert standing.outcome["accuracy"] == 0.5


def test_reports_have_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    search = _search(store)
    _put(store, search, _task(0), _task(1))
    wordy, many = store.evaluations.lease(search, "a", 2)
    metrics = {"m" * 64: 0.5}
    monkeypatch.setattr(store_module, "MAX_STEPS_BYTES", 1017)
    for step in range(1, 10):
        store.evaluations.report(search, 0, wordy.token, Progress(step, 10, metrics))
    with pytest.raises(EvaluationError, match="trial 0 has 9 reports; no more than"):
        store.evaluations.report(search, 0, wordy.token, Progress(10, 10, metrics))
    monkeypatch.setattr(store_module, "MAX_STEPS", 3)
    for step in (1, 2, 3, 3):  # the same again is none more
        store.evaluations.report(search, 1, many.token, Progress(step, 100))
    with pytest.raises(EvaluationError, match="trial 1 has 3 reports; no more than 3"):
        store.evaluations.report(search, 1, many.token, Progress(4, 100))
    store.evaluations.tell(search, 1, many.token, accuracy=0.5)  # it still counts
    (standing,) = store.evaluations.standing(search, [1])
    assert standing.outcome is not None
    assert len(standing.steps) == 3


def test_a_slow_client_keeps_what_nobody_else_asked_for(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(0), _task(1))
    first, second = store.evaluations.lease(search, "a", 2)
    _lapse(store)
    assert store.evaluations.heartbeat(search, 0, first.token) == 60
    store.evaluations.report(search, 1, second.token, Progress(1, 2))  # a report holds the lease, too
    assert store.evaluations.waiting(search) == 0


def test_an_evaluation_lost_too_often_has_failed(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(), attempts=2)
    for _ in range(2):
        lease = _lease(store, search)
        store.evaluations.expire()
        assert [s.outcome for s in store.evaluations.standing(search, [0])] == [None]
        _lapse(store)
    assert store.evaluations.waiting(search) == 0
    store.evaluations.expire()
    (standing,) = store.evaluations.standing(search, [0])
    assert standing.outcome is not None
    assert standing.outcome["error"] == "its evaluator was lost 2 times"
    with pytest.raises(Conflict):
        store.evaluations.tell(search, 0, lease.token, accuracy=0.5)


def test_only_what_was_lost_by_then_of_a_search_that_goes_on_ends(store: Store) -> None:
    running, paused = _search(store), _search(store)
    for search in (running, paused):
        _put(store, search, _task(), attempts=1)
        _lease(store, search)
    store.searches.set_state(paused, "paused")  # its clients bring to an end what they have
    before = store.evaluations.expire()
    _lapse(store)
    store.evaluations.expire(before - dt.timedelta(seconds=60))
    assert [s.outcome for search in (running, paused) for s in store.evaluations.standing(search, [0])] == [None, None]
    assert store.evaluations.expire() >= before
    (ended,), (kept,) = (store.evaluations.standing(search, [0]) for search in (running, paused))
    assert (ended.outcome is None, kept.outcome) == (False, None)


def test_leases_grow_by_what_nobody_could_hear_and_no_longer_than_they_were(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(0), _task(1))
    _lease(store, search)
    _lapse(store)
    store.evaluations.hold_all(0.5)
    assert store.evaluations.waiting(search) == 2  # silent for a second too long, of which half counts
    store.evaluations.hold_all(30)
    assert store.evaluations.waiting(search) == 1

    def left_s() -> float:
        with store.database.read() as c:
            now, until = store.database.now(c), c.execute(sa.select(sa.func.max(evaluations.c.lease_until))).scalar()
        assert until is not None
        return float((until - now).total_seconds())

    assert left_s() < 30
    for away_s in (1e6, None):
        store.evaluations.hold_all(away_s)
        assert left_s() <= 60
        _lapse(store)


def test_a_client_that_asks_finds_what_was_lost_too_often(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(), attempts=1)
    _lease(store, search)
    _lapse(store)
    assert store.evaluations.lease(search, "b") == []
    (standing,) = store.evaluations.standing(search, [0])
    assert standing.outcome is not None
    assert standing.outcome["error"] == "its evaluator was lost once"


def test_rungs_end_an_evaluation_and_answer_the_same_again(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(at1=0.3, at2=0.6))
    token = _lease(store, search).token
    bad = Progress(2, 4, {"val_accuracy": 0.5})
    assert store.evaluations.report(search, 0, token, Progress(1, 4, {"val_accuracy": 0.4})) is False
    assert store.evaluations.report(search, 0, token, Progress(1, 4, {"val_accuracy": 0.4})) is False
    assert store.evaluations.report(search, 0, token, bad) is True
    assert store.evaluations.report(search, 0, token, bad) is True
    assert store.evaluations.report(search, 0, token, Progress(1, 4, {"val_accuracy": 0.4})) is False
    store.evaluations.tell(search, 0, token, accuracy=0.9)  # it is over: told too late, and no error
    (standing,) = store.evaluations.standing(search, [0])
    assert standing.outcome is not None
    del standing.outcome["seconds"]
    assert standing.outcome == {"accuracy": 0.5, "extras": {"rungs": {"1": 0.4, "2": 0.5}}, "pruned_at": 2}
    assert [s["step"] for s in standing.steps] == [1, 2]


def test_what_a_client_must_not_tell(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(0, at2=0.6), _task(1))
    first, second = store.evaluations.lease(search, "a", 2)
    with pytest.raises(SearchError, match="did not report val_accuracy at step 2"):
        store.evaluations.report(search, 0, first.token, Progress(3, 4, {"val_accuracy": 0.5}))
    with pytest.raises(SearchError, match="did not report val_accuracy at step 2"):
        store.evaluations.tell(search, 0, first.token, accuracy=0.5)
    for accuracy in (None, -0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(EvaluationError, match=r"not in \[0, 1\]"):
            store.evaluations.tell(search, 1, second.token, accuracy=accuracy)
    store.evaluations.report(search, 1, second.token, Progress(3, 4))
    with pytest.raises(Conflict, match="after step 3"):
        store.evaluations.report(search, 1, second.token, Progress(2, 4))
    with pytest.raises(NotFound, match="does not wait for trial 9"):
        store.evaluations.heartbeat(search, 9, first.token)
    with pytest.raises(Conflict):
        store.evaluations.heartbeat(search, 0, second.token)
    assert [s.outcome for s in store.evaluations.standing(search, [0, 1])] == [None, None]
    store.evaluations.tell(search, 1, second.token, error="no memory")
    with pytest.raises(Conflict, match="has ended already"):
        store.evaluations.report(search, 1, second.token, Progress(4, 4))


@pytest.mark.parametrize("state", ["paused", "stopped", "cancelled", "complete", "failed"])
def test_only_a_search_that_runs_gives_trials_away(store: Store, state: str) -> None:
    search = _search(store)
    _put(store, search, _task(0), _task(1))
    token = _lease(store, search).token
    store.searches.set_state(search, state)
    assert store.evaluations.waiting(search) == 0
    assert store.evaluations.lease(search, "b") == []
    if state in ("paused", "stopped"):  # what a client has, it may bring to its end
        store.evaluations.heartbeat(search, 0, token)
        store.evaluations.tell(search, 0, token, accuracy=0.5)
    else:
        with pytest.raises(Conflict, match=f"is {state}: nothing more counts"):
            store.evaluations.tell(search, 0, token, accuracy=0.5)


def test_what_is_put_again_stays_as_it_is(store: Store) -> None:
    search = _search(store)
    _put(store, search, _task(0), _task(1), _task(2))
    first, second = store.evaluations.lease(search, "a", 2)
    store.evaluations.tell(search, 0, first.token, accuracy=0.5)
    store.evaluations.withdraw(search)
    assert len(store.evaluations.standing(search, [0, 1, 2])) == 2
    _put(store, search, _task(0), _task(1), _task(2))
    told, leased, fresh = store.evaluations.standing(search, [0, 1, 2])
    assert told.outcome is not None
    assert (leased.attempt, fresh.attempt) == (1, 0)
    store.evaluations.heartbeat(search, 1, second.token)
    _put(store, search, _task(0, seed=8))  # another evaluation: what was told is not its outcome
    assert [s.outcome for s in store.evaluations.standing(search, [0])] == [None]


def test_forgetting(store: Store) -> None:
    search, other = _search(store), _search(store)
    log = store.searches.log(search)
    for number in range(4):
        _put(store, search, _task(number))
        log.started(Trial(number, (1, 2, number)))
    _put(store, other, _task())
    leases = store.evaluations.lease(search, "a", 3)
    for lease in leases:
        store.evaluations.tell(search, lease.number, lease.token, error="x")
    log.finished(Trial(0, (1, 2, 0)).failed("x", 0))
    log.finished(Trial(2, (1, 2, 2)).complete(0.5, 0.5, 0, {}))
    store.evaluations.tidy(search, 2)  # 1 is not in the log yet
    assert [s.number for s in store.evaluations.standing(search, range(4))] == [1, 2, 3]
    log.finished(Trial(1, (1, 2, 1)).failed("x", 0))
    store.evaluations.drop_failed(search)
    assert [s.number for s in store.evaluations.standing(search, range(4))] == [2, 3]
    store.evaluations.drop(search, [3])
    assert [s.number for s in store.evaluations.standing(search, range(4))] == [2]
    store.evaluations.forget(search)
    assert store.evaluations.standing(search, range(4)) == []
    assert len(store.evaluations.standing(other, [0])) == 1
    store.searches.delete(other)
    assert store.evaluations.standing(other, [0]) == []


def test_clients_at_once_never_share_a_trial(store: Store) -> None:
    search = _search(store)
    _put(store, search, *map(_task, range(40)))
    got: list[Lease] = []

    def ask() -> None:
        while store.evaluations.waiting(search):
            got.extend(store.evaluations.lease(search, "a", 3))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lease.number for lease in got) == list(range(40))


Deed = st.tuples(st.sampled_from(["lease", "lapse", "report", "tell", "fail", "put"]), st.integers(0, 5))


@given(deeds=st.lists(Deed, max_size=25))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_clients_do_a_trial_ends_once_by_the_one_that_has_it(
    store: Store, deeds: list[tuple[str, int]]
) -> None:
    search = _search(store)
    _put(store, search, _task(0), _task(1), attempts=100)
    given_away: list[Lease] = []
    holder: dict[int, Lease] = {}
    ended: dict[int, str] = {}
    for deed, which in deeds:
        if deed == "lapse":
            _lapse(store)
        elif deed == "put":
            _put(store, search, _task(which % 2), attempts=100)
        elif deed == "lease":
            for lease in store.evaluations.lease(search, "a"):
                assert lease.number not in ended
                given_away.append(lease)
                holder[lease.number] = lease
        elif given_away:
            lease = given_away[which % len(given_away)]
            mine = holder[lease.number] == lease
            try:
                if deed == "report":
                    store.evaluations.report(search, lease.number, lease.token, Progress(1, 9))
                else:
                    store.evaluations.tell(search, lease.number, lease.token, error=f"{lease.token}-{which}")
                    ended.setdefault(lease.number, f"{lease.token}-{which}")
                assert mine
            except Conflict:
                assert not mine or lease.number in ended
    found = {s.number: s.outcome for s in store.evaluations.standing(search, [0, 1])}
    assert len(found) == 2
    assert {n: o["error"] for n, o in found.items() if o is not None} == ended
