from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api import compose
from api.errors import NotFound
from api.executors.remote import RemoteExecutor
from api.plans.checks import check_evaluator
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.evaluations import KEPT
from api.store.models import evaluations
from api.store.searches import SearchRecord
from nas.errors import EvaluationError
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress
from nas.evaluators import build_evaluator
from nas.executor import Outcome, Step, Task
from nas.search import Stopped
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial


def _create(store: Store, evaluator: str, options: dict[str, Any], **more: Any) -> SearchRecord:
    spec = SearchSpec(SpaceSpec.of("nas-bench-macro"), evaluator=evaluator, evaluator_options=options, **more)
    plan = build_plan(spec, None)
    check_evaluator(plan, store.settings)
    return compose.store_search(store, plan, board=None)


def _table(store: Store, record: SearchRecord) -> list[Trial]:
    return [Trial(**{**t.__dict__, "seconds": 0.0}) for t in store.searches.log(record.id).load()]


@contextmanager
def _clients(store: Store, search: int, evaluator: Evaluator, count: int = 1) -> Iterator[None]:
    """Threads that evaluate a search's trials while the block runs."""
    space, done = build_space("nas-bench-macro"), threading.Event()

    def work() -> None:
        while not done.wait(0.01):
            for lease in store.evaluations.lease(search, "a client"):
                found = _evaluate(evaluator, space, lease.encoding, lease.seed)
                told = {"accuracy": found.accuracy, "extras": found.extras}
                store.evaluations.tell(search, lease.number, lease.token, **told)  # type: ignore[arg-type]

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _evaluate(evaluator: Evaluator, space: SearchSpace, encoding: tuple[int, ...], seed: int) -> Evaluation:
    return evaluator.evaluate(Architecture(space, encoding), seed=seed, workdir=Path(), report=lambda _: None)


def test_clients_make_the_same_trials_as_a_search_here(store: Store, benchmark_table: Path) -> None:
    options = {"path": str(benchmark_table)}
    here = _create(store, "table", options, trials=20, parallel=3, strategy="annealing")
    compose.run_search(store, here)
    there = _create(store, "remote", {"lease_s": 30}, trials=20, parallel=3, strategy="annealing")
    with _clients(store, there.id, build_evaluator("table", options), 3):
        # Stopped twice on its way, with trials in the clients' hands.
        for ends in (5, 12, None):
            seen: list[object] = []

            def enough(seen: list[object] = seen, ends: int | None = ends) -> bool:
                return ends is not None and sum(store.searches.counts(there.id).values()) > ends

            result = compose.run_search(store, there, on_event=seen.append, should_stop=enough)
    assert result.stopped is Stopped.DONE
    assert _table(store, there) == _table(store, here)


@pytest.fixture
def search(store: Store) -> int:
    return store.searches.create({"seed": 0}, space="s", space_digest="d").id


@pytest.fixture
def make(store: Store, search: int) -> Callable[..., RemoteExecutor]:
    return lambda **options: RemoteExecutor(store, search, **options)


def _task(number: int, **rungs: float) -> Task:
    return Task(number, (1, 2), 7, Path(), {k.removeprefix("at"): v for k, v in rungs.items()})


def _lapse(store: Store) -> None:
    """All clients were silent for too long."""
    with store.database.write() as c:
        past = store.database.now(c) - dt.timedelta(seconds=1)
        leased = evaluations.c.state == "leased"
        c.execute(sa.update(evaluations).where(leased).values(lease_until=past))


def test_steps_and_outcomes_are_told_once_and_in_order(
    store: Store, search: int, make: Callable[..., RemoteExecutor]
) -> None:
    executor = make()
    assert executor.wait(5) == []  # nothing is out: nobody waits
    executor.submit(_task(0))
    executor.submit(_task(1, at1=0.9))
    a, b = store.evaluations.lease(search, "a", 2)
    store.evaluations.report(search, 0, a.token, Progress(1, 2, {"loss": 3.0}))
    assert executor.wait(5) == [Step(0, Progress(1, 2, {"loss": 3.0}))]
    store.evaluations.report(search, 0, a.token, Progress(2, 2, {"loss": 2.0}))
    store.evaluations.tell(search, 0, a.token, accuracy=0.5)
    store.evaluations.report(search, 1, b.token, Progress(1, 2, {"val_accuracy": 0.25}))
    found = executor.wait(5)
    assert [type(r) for r in found] == [Step, Outcome, Step, Outcome]
    assert found[0] == Step(0, Progress(2, 2, {"loss": 2.0}))
    assert isinstance(found[1], Outcome)
    assert found[1].result == Evaluation(0.5)
    assert isinstance(found[3], Outcome)
    assert (found[3].result, found[3].pruned_at) == (Evaluation(0.25, {"rungs": {"1": 0.25}}), 1)
    assert executor.wait(0.3) == []


def test_an_outcome_told_while_the_search_was_stopped_is_taken(
    store: Store, search: int, make: Callable[..., RemoteExecutor]
) -> None:
    before = make()
    for number in range(3):
        before.submit(_task(number))
    a, b = store.evaluations.lease(search, "a", 2)
    store.evaluations.report(search, 1, b.token, Progress(1, 2))
    assert [type(r) for r in before.stop(60)] == [Step]
    before.close()
    assert store.evaluations.waiting(search) == 0  # the third is offered again when the search goes on
    store.evaluations.tell(search, 0, a.token, error="no memory")
    after = make()
    for number in range(3):
        after.submit(_task(number))
    found = after.wait(5)
    assert [r.number for r in found] == [0, 1]
    assert isinstance(found[0], Outcome)
    assert found[0].result == "no memory"
    assert isinstance(found[1], Step)
    assert store.evaluations.waiting(search) == 1
    store.evaluations.tell(search, 1, b.token, accuracy=0.5)
    assert [type(r) for r in after.wait(5)] == [Outcome]


def test_what_another_worker_took_back_is_offered_again(
    store: Store, search: int, make: Callable[..., RemoteExecutor]
) -> None:
    lost, executor = make(), make()
    lost.submit(_task(0))
    executor.submit(_task(0))
    lost.stop(0)
    assert store.evaluations.waiting(search) == 0
    assert executor.wait(0) == []
    assert store.evaluations.waiting(search) == 1


def test_a_lease_given_anew_tells_its_steps_from_the_first(
    store: Store, search: int, make: Callable[..., RemoteExecutor]
) -> None:
    executor = make(attempts=2)
    executor.submit(_task(0))
    for attempt in (1, 2):
        (lease,) = store.evaluations.lease(search, "a")
        assert lease.attempt == attempt
        store.evaluations.report(search, 0, lease.token, Progress(1, 2))
        assert executor.wait(5) == [Step(0, Progress(1, 2))]
        _lapse(store)
    assert executor.wait(0) == []  # perhaps nobody could hear the client: who hears of them ends it
    store.evaluations.expire()
    (outcome,) = executor.wait(5)
    assert isinstance(outcome, Outcome)
    assert outcome.result == "its evaluator was lost 2 times"


def test_a_cancelled_trial_is_nobodys(store: Store, search: int, make: Callable[..., RemoteExecutor]) -> None:
    executor = make()
    executor.submit(_task(0))
    (lease,) = store.evaluations.lease(search, "a")
    executor.cancel(0)
    with pytest.raises(NotFound, match="does not wait for trial 0"):
        store.evaluations.tell(search, 0, lease.token, accuracy=0.5)
    assert executor.wait(5) == []


def test_old_outcomes_go_and_young_ones_stay(store: Store, search: int, make: Callable[..., RemoteExecutor]) -> None:
    executor = make()
    numbers = (0, 1, KEPT + 1)
    leases = {}
    for number in numbers:
        executor.submit(_task(number))
        (leases[number],) = store.evaluations.lease(search, "a")
    for number in numbers:
        store.evaluations.tell(search, number, leases[number].token, accuracy=0.5)
        assert len(executor.wait(5)) == 1
    executor.wait(0)
    assert [s.number for s in store.evaluations.standing(search, numbers)] == [1, KEPT + 1]
    store.evaluations.tell(search, 1, leases[1].token, accuracy=0.5)  # did not hear the answer
    with pytest.raises(NotFound, match="does not wait for trial 0"):
        store.evaluations.tell(search, 0, leases[0].token, accuracy=0.5)


def test_its_options_are_checked(store: Store) -> None:
    for options in ({"lease_s": 0}, {"lease_s": "60"}, {"attempts": 0}, {"attempts": True}, {"steps": -1}):
        with pytest.raises(EvaluationError, match=f"remote option {next(iter(options))} is"):
            RemoteExecutor(store, 1, **options)
