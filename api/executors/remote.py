"""RemoteExecutor: trials evaluated by clients elsewhere, which meet them in the store."""

from __future__ import annotations

import time
from typing import Any

from api.store import Store
from api.store.evaluations import KEPT, Standing
from nas.evaluator import Evaluation, Progress
from nas.evaluators.remote import RemoteEvaluator
from nas.executor import Executor, Outcome, Report, Step, Task

POLL_S = 0.1


class RemoteExecutor(Executor):
    """Offers trials to clients and waits for what they tell.

    The store holds all that counts, so clients go on while the search is stopped: a trial that is submitted again is
    found as it stands, its outcome included. After a stop of this process the steps of a running trial are told anew.

    Args:
        store: where trials and clients meet.
        search_id: whose trials.
        options: of the evaluator `remote` (`nas.evaluators.remote`).

    Raises:
        EvaluationError: an option makes no sense.
    """

    def __init__(self, store: Store, search_id: int, **options: Any) -> None:
        found = RemoteEvaluator(**options)
        self._store, self._search = store.evaluations, search_id
        self._attempts, self._lease_s = found.attempts, found.lease_s
        self._tasks: dict[int, Task] = {}  # whose outcome is not told yet
        self._told: dict[int, tuple[int, int]] = {}  # number -> (lease, steps of it that were told)
        self._ended = self._tidied = KEPT - 1  # the highest number of an outcome told, and when old ones last went

    def submit(self, task: Task) -> None:
        """Offer the trial."""
        self._tasks[task.number] = task
        self._put(task)

    def wait(self, timeout_s: float) -> list[Report]:
        """What clients told; looks for it ten times a second."""
        deadline = time.monotonic() + timeout_s
        if self._ended > self._tidied:  # what was told before is in the log by now
            self._store.tidy(self._search, self._ended - KEPT)
            self._tidied = self._ended
        while True:
            reports = self._look()
            left = deadline - time.monotonic()
            if reports or not self._tasks or left <= 0:
                return reports
            time.sleep(min(POLL_S, left))

    def cancel(self, number: int) -> None:
        """Forget the trial; its client is refused from now on."""
        if self._tasks.pop(number, None) is not None:
            self._store.drop(self._search, [number])

    def stop(self, grace_s: float) -> list[Report]:
        """Give no more trials away. Clients that have one go on: what they tell waits for the search."""
        reports = self._look()
        self._store.withdraw(self._search)
        self._tasks.clear()
        return reports

    # Parts -----------------------------------------------------------------------------------------------------

    def _put(self, task: Task) -> None:
        self._store.put(self._search, task, attempts=self._attempts, lease_s=self._lease_s)

    def _look(self) -> list[Report]:
        if not self._tasks:
            return []
        found = {s.number: s for s in self._store.standing(self._search, list(self._tasks))}
        for number in self._tasks.keys() - found.keys():  # taken back by a worker that did not know of this one
            self._put(self._tasks[number])
        return [report for standing in found.values() for report in self._reports(standing)]

    def _reports(self, standing: Standing) -> list[Report]:
        number = standing.number
        lease, told = self._told.get(number, (0, 0))
        if lease != standing.attempt:
            told = 0
        self._told[number] = (standing.attempt, len(standing.steps))
        reports: list[Report] = [
            Step(number, Progress(s["step"], s["steps"], s["metrics"])) for s in standing.steps[told:]
        ]
        if standing.outcome is not None:
            del self._tasks[number], self._told[number]
            self._ended = max(self._ended, number)
            reports.append(_outcome(number, standing.outcome))
        return reports


def _outcome(number: int, told: dict[str, Any]) -> Outcome:
    if "error" in told:
        return Outcome(number, str(told["error"]), told["seconds"])
    return Outcome(number, Evaluation(told["accuracy"], told["extras"]), told["seconds"], told.get("pruned_at"))
