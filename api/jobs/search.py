"""The job of a search: run it to its end, telling its trials' steps to whoever watches."""

from __future__ import annotations

import time
from typing import Any

from api.compose import OVER, run_search
from api.data.root import DataRoot
from api.jobs.context import Interrupted, JobContext
from api.operations.log import bind
from api.store import Store
from api.store.fence import Fence
from nas.search import SearchEvent, TrialEnded, TrialStep

_EVERY_S = 0.5


class Steps:
    """Writes the steps of running trials as events, together, at most twice a second."""

    def __init__(self, store: Store, search_id: int, fence: Fence) -> None:
        self._store, self._search, self._fence = store, search_id, fence
        self._steps: list[tuple[int, dict[str, Any]]] = []
        self._written_at = 0.0

    def hear(self, step: TrialStep) -> None:
        """Take a step; it is written soon."""
        progress = step.progress
        told = {"step": progress.step, "steps": progress.steps, "metrics": dict(progress.metrics)}
        self._steps.append((step.number, told))
        self.flush()

    def forget(self, trial: int) -> None:
        """Drop what is not written of a trial that has ended: its end has been told."""
        self._steps = [step for step in self._steps if step[0] != trial]

    def flush(self, *, now: bool = False) -> None:
        """Write what there is, if it is time or `now`."""
        if self._steps and (now or time.monotonic() - self._written_at >= _EVERY_S):
            self._store.events.add_steps(self._search, self._steps, self._fence)
            self._steps, self._written_at = [], time.monotonic()


def run(context: JobContext) -> dict[str, Any]:
    """Run the search of a job.

    Returns:
        How it ended: `stopped` (why), and trials by state.

    Raises:
        Interrupted: it was to stop; it goes on from its log.
        OptionError: a file a request named is not below the data root any more.
    """
    store = context.store
    record = store.searches.by_id(context.search_id())
    if record.owner is not None:
        DataRoot.of(store.settings).check_stored(record.spec["evaluator"], record.spec["evaluator_options"])
    steps, got_on = Steps(store, record.id, context.fence), False

    def on_event(event: SearchEvent) -> None:
        nonlocal got_on
        if isinstance(event, TrialStep):
            steps.hear(event)
        elif isinstance(event, TrialEnded):
            steps.forget(event.trial.number)
            if not got_on:
                got_on = True
                store.jobs.progress(context.fence)  # it does not kill its workers

    def should_stop() -> bool:
        steps.flush()
        return context.stopping()

    with bind(search_id=record.id):
        result = run_search(
            store, record, on_event=on_event, should_stop=should_stop, executor=context.executor, fence=context.fence
        )
    steps.flush(now=True)
    if result.stopped not in OVER:
        raise Interrupted(f"search {record.name} was stopped")
    counts = {"complete": result.complete, "pruned": result.pruned, "failed": result.failed}
    return {"stopped": result.stopped.value, "trials": result.trials, **counts}
