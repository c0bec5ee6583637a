"""The only wiring: what a user asked for -> Search. Commands and the REST service build nothing themselves."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from api.errors import StoreError
from api.executors.choice import TrialExecutor
from api.networks.spaces import check_version, kept_space
from api.plans.checks import check_evaluator, evaluator_options
from api.plans.earlier import earlier_trials
from api.plans.plan import Plan, plan_of
from api.plans.spec import SearchSpec
from api.settings import Settings
from api.store import Store
from api.store.fence import Fence
from api.store.searches import SearchRecord
from nas.errors import LightnasError
from nas.estimate import estimate
from nas.executor import Executor, build_executor
from nas.search import Search, SearchEvent, SearchResult, Stopped

OVER = (Stopped.DONE, Stopped.EXHAUSTED, Stopped.SURE)
"""Why a search ends that has nothing left to do."""


def create_search(store: Store, plan: Plan, *, board: str | None, name: str | None = None) -> SearchRecord:
    """Check what a search evaluates with, and store it, to be run in this process."""
    check_evaluator(plan, store.settings)
    return store_search(store, plan, board=board, name=name)


def queue_search(
    store: Store, plan: Plan, *, board: str | None, name: str | None = None, owner: str | None = None
) -> SearchRecord:
    """Store a search whose evaluator was checked, and the job of a worker to run it."""
    with store.database.write():
        record = store_search(store, plan, board=board, name=name, owner=owner, state="queued")
        store.jobs.create("search", {}, owner=owner, search_id=record.id)
    return record


def store_search(
    store: Store,
    plan: Plan,
    *,
    board: str | None,
    name: str | None = None,
    owner: str | None = None,
    state: str = "running",
) -> SearchRecord:
    """Store a search whose evaluator was checked."""
    return store.searches.create(
        plan.spec.to_dict(),
        space=plan.spec.space.name,
        space_digest=plan.space.digest,
        board=board,
        table_digest=None if plan.table is None else plan.table.digest,
        name=name,
        owner=owner,
        state=state,
    )


def reopen(store: Store, record: SearchRecord, *, to_run: bool = False) -> Plan:
    """The plan of a stored search.

    Args:
        store: has it.
        record: the search.
        to_run: with the earlier trials that its strategy learns from; nothing else reads them.

    Raises:
        Conflict: this program builds another space from the same description.
    """
    spec = SearchSpec.from_dict(record.spec)
    check_version(record, kept_space(spec.space).space)
    table = None if record.table_digest is None else store.tables.get(record.table_digest)
    return plan_of(
        spec, table, earlier_trials(store, spec) if to_run else ()
    )  # the rest was checked when it was stored


def run_search(
    store: Store,
    record: SearchRecord,
    *,
    on_event: Callable[[SearchEvent], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    max_seconds: float | None = None,
    executor: TrialExecutor = TrialExecutor(),  # noqa: B008 - immutable
    fence: Fence | None = None,
) -> SearchResult:
    """Run a stored search to its end, or go on with it.

    Args:
        store: where it is.
        record: the search.
        on_event: hears of its trials.
        should_stop: asked about twice a second.
        max_seconds: then it stops.
        executor: where trials run.
        fence: of the job that runs it: the search's state is the job's then, and trials are written only through it.

    Raises:
        SearchBusy: another process runs it.
        JobLost: another worker has it.
        LightnasError: it cannot go on; what it has is kept.
    """
    with store.searches.lock(record):
        plan = reopen(store, record, to_run=True)
        workdir = store.settings.search_folder(record.id)
        search = Search(
            plan.space,
            plan.strategy(),
            executor.build(store, record.id, plan, evaluator_options(plan.spec, store.settings), workdir),
            store.searches.log(record.id, fence),
            trials=plan.spec.trials,
            workdir=workdir,
            budgets=plan.budgets,
            costs=plan.costs,
            reward=plan.spec.build_reward(),
            stop_when=plan.spec.stop_when,
            rungs=plan.spec.build_rungs(),
            inherit=bool(plan.spec.evaluator_options.get("inherit", False)),
            parallel=plan.spec.parallel,
            seed=plan.spec.seed,
            on_event=on_event,
            should_stop=should_stop,
            max_seconds=max_seconds,
        )
        with _state_told(store, record, fence):
            result = search.run()
        store.searches.set_beliefs(record.id, None if result.beliefs is None else dataclasses.asdict(result.beliefs))
        if fence is None:
            store.searches.set_state(record.id, "complete" if result.stopped in OVER else "stopped")
        return result


@contextlib.contextmanager
def _state_told(store: Store, record: SearchRecord, fence: Fence | None) -> Iterator[None]:
    """Note that a search runs and, if it ends by an error, that; of a job's search the job tells it."""
    if fence is not None:
        yield
        return
    store.searches.set_state(record.id, "running")
    try:
        yield
    except BaseException as e:
        with contextlib.suppress(StoreError):  # the disk may be the very thing that failed
            state = "failed" if isinstance(e, LightnasError) else "stopped"
            store.searches.set_state(record.id, state, error=str(e) or None)
        raise


def estimate_hours(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Time a few candidates for one epoch and tell how long the search will take.

    Returns:
        `trial_seconds` of each candidate, their mean `seconds_per_trial`, and `hours`.

    Raises:
        SearchError: none of them could be evaluated.
    """
    spec = plan.spec

    def build(workdir: Path) -> Executor:
        options = evaluator_options(spec, settings)
        return build_executor(spec.space, plan.space, spec.evaluator, options, parallel=spec.parallel, workdir=workdir)

    found = estimate(plan.space, plan.budgets, build, trials=spec.trials, parallel=spec.parallel, seed=spec.seed)
    return {
        "trial_seconds": list(found.trial_seconds),
        "seconds_per_trial": sum(found.trial_seconds) / len(found.trial_seconds),
        "hours": found.hours,
    }
