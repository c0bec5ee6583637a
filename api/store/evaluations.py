"""Evaluations: trials that wait for, or are with, a remote evaluator. One is leased, heard of and told, by a token."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from api.errors import Conflict, NotFound
from api.store.engine import Database
from api.store.models import evaluations, searches, trials
from nas.errors import EvaluationError
from nas.evaluator import Progress
from nas.executor import Task
from nas.rungs import Climb, Stop
from nas.trial import TrialState

KEPT = 256
"""So many of the evaluations that ended last stay, for clients that did not hear the answer and tell again."""
MAX_STEPS = 10_000
"""Reports of an evaluation."""
MAX_STEPS_BYTES = 256 * 1024
"""All its reports together, as JSON: each new one reads and writes them all, while nobody else can write."""
_SERVED = ("queued", "running")  # states of a search in which trials are given away
_OVER = ("complete", "cancelled", "failed")


@dataclass(frozen=True)
class Lease:
    """A trial that is an evaluator's for as long as it is heard of.

    Attributes:
        number: of the trial.
        token: proves whose it is.
        encoding: choice indices.
        seed: decides all randomness of the evaluation.
        stop_below: rung -> accuracy below which it must end there; None: it passes.
        attempt: 1 for the first evaluator it is given to.
        lease_s: how long the evaluator may be silent.
    """

    number: int
    token: str
    encoding: tuple[int, ...]
    seed: int
    stop_below: dict[str, float | None]
    attempt: int
    lease_s: float


@dataclass(frozen=True)
class Standing:
    """How far an evaluation is, for the search that waits for it.

    Attributes:
        number: of the trial.
        attempt: leases so far; its steps begin anew with each.
        steps: the present lease's reports, `{"step", "steps", "metrics"}`.
        outcome: `{"accuracy", "extras", "pruned_at", "seconds"}` or `{"error", "seconds"}`; None while it goes on.
    """

    number: int
    attempt: int
    steps: list[dict[str, Any]]
    outcome: dict[str, Any] | None


class EvaluationStore:
    """The evaluations of all searches.

    An evaluation is `open`, `leased` to a client, or `ended`. A lease that ran out is a client's until another one
    asks: a client that was only slow loses nothing.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    # What the search does ----------------------------------------------------------------------------------------

    def put(self, search_id: int, task: Task, *, attempts: int, lease_s: float) -> None:
        """Offer a trial. One of the same encoding and seed that is there already stays as it is, its outcome included.

        Args:
            search_id: whose trial.
            task: the trial.
            attempts: leases that may be lost before it has failed.
            lease_s: see `Lease`.
        """
        wanted = {"encoding": list(task.encoding), "seed": task.seed, "stop_below": dict(task.stop_below)}
        with self._db.write() as c:
            row = self._row(c, search_id, task.number)
            if row is not None:
                if all(row["task"][key] == wanted[key] for key in ("encoding", "seed")):
                    return
                c.execute(sa.delete(evaluations).where(_is(search_id, task.number)))
            key = {"search_id": search_id, "number": task.number}
            fresh = {"state": "open", "attempts": 0, "steps": []}
            c.execute(
                sa.insert(evaluations).values(**key, **fresh, task={**wanted, "attempts": attempts, "lease_s": lease_s})
            )

    def standing(self, search_id: int, numbers: Sequence[int]) -> list[Standing]:
        """How far evaluations are, in number order; those that are not there are left out."""
        columns = [evaluations.c[name] for name in ("number", "attempts", "steps", "outcome")]
        query = sa.select(*columns).where(evaluations.c.search_id == search_id, evaluations.c.number >= min(numbers))
        with self._db.read() as c:
            found = c.execute(query.order_by(evaluations.c.number)).all()
        wanted = set(numbers)
        return [Standing(*row) for row in found if row.number in wanted]

    def withdraw(self, search_id: int) -> None:
        """Take back the trials nobody has; those that are with a client stay."""
        with self._db.write() as c:
            c.execute(sa.delete(evaluations).where(evaluations.c.search_id == search_id, evaluations.c.state == "open"))

    def free(self, search_id: int) -> None:
        """Take the trials of a search that was over from their clients, who were sent away: none of them lost it."""
        its = sa.and_(evaluations.c.search_id == search_id, evaluations.c.state == "leased")
        anew: dict[str, Any] = {"state": "open", "attempts": evaluations.c.attempts - 1, "token": None, "steps": []}
        with self._db.write() as c:
            c.execute(sa.update(evaluations).where(its).values(**anew, lease_until=None))

    def drop(self, search_id: int, numbers: Sequence[int]) -> None:
        """Forget evaluations wherever they stand; whoever has one is refused from now on."""
        with self._db.write() as c:
            for number in numbers:
                c.execute(sa.delete(evaluations).where(_is(search_id, number)))

    def drop_failed(self, search_id: int) -> None:
        """Forget how failed trials ended, so that they are evaluated anew; before those are made running ones."""
        failed = sa.select(trials.c.number).where(
            trials.c.search_id == search_id, trials.c.state == TrialState.FAILED.value
        )
        with self._db.write() as c:
            c.execute(
                sa.delete(evaluations).where(evaluations.c.search_id == search_id, evaluations.c.number.in_(failed))
            )

    def tidy(self, search_id: int, below: int) -> None:
        """Forget ended evaluations with numbers below `below` whose outcomes are in the log."""
        running = sa.select(trials.c.number).where(
            trials.c.search_id == search_id, trials.c.state == TrialState.RUNNING.value
        )
        with self._db.write() as c:
            c.execute(
                sa.delete(evaluations).where(
                    evaluations.c.search_id == search_id,
                    evaluations.c.number < below,
                    evaluations.c.state == "ended",
                    evaluations.c.number.not_in(running),
                )
            )

    def forget(self, search_id: int) -> None:
        """Forget all evaluations of a search."""
        with self._db.write() as c:
            c.execute(sa.delete(evaluations).where(evaluations.c.search_id == search_id))

    # What who hears of the evaluators does -----------------------------------------------------------------------

    def hold_all(self, away_s: float | None = None) -> None:
        """Count no silence of a time in which no client could be heard of: none must pass for lost by that.

        Args:
            away_s: how long that was, up to now; None: nobody knows, and all leases begin anew.
        """
        columns = [evaluations.c[name] for name in ("search_id", "number", "task", "lease_until")]
        query = sa.select(*columns).where(evaluations.c.state == "leased").with_for_update()
        with self._db.write() as c:
            moment = self._db.now(c)
            for row in c.execute(query.order_by(evaluations.c.search_id, evaluations.c.number)).all():
                until = moment + dt.timedelta(seconds=row.task["lease_s"])
                if away_s is not None:
                    until = min(until, row.lease_until + dt.timedelta(seconds=away_s))
                c.execute(sa.update(evaluations).where(_is(row.search_id, row.number)).values(lease_until=until))

    def expire(self, before: dt.datetime | None = None) -> dt.datetime:
        """End the evaluations whose last lease is lost as failed, of all searches that give trials away.

        Args:
            before: only where it was lost before this moment; None: by now.

        Returns:
            This moment, by the database's clock.
        """
        with self._db.read() as c:
            moment = self._db.now(c)
            lost = self._lost(c, before or moment)
        if lost:
            with self._db.write() as c:
                for row in self._lost(c, before or moment, lock=True):
                    self._gave_up(c, row)
        return moment

    # What evaluators do ------------------------------------------------------------------------------------------

    def is_over(self, search_id: int) -> bool:
        """Whether no trial of a search will ever wait again."""
        with self._db.read() as c:
            return self._state(c, search_id) in (*_OVER, None)

    def waiting(self, search_id: int) -> int:
        """How many trials could be leased now."""
        with self._db.read() as c:
            if self._state(c, search_id) not in _SERVED:
                return 0
            return sum(row["attempts"] < row["task"]["attempts"] for row in self._claimable(c, search_id))

    def lease(self, search_id: int, client: str, count: int = 1) -> list[Lease]:
        """Give trials to a client: those nobody has, and those whose client was silent for too long.

        Args:
            search_id: whose trials.
            client: what people call it.
            count: at most so many, lowest numbers first.
        """
        with self._db.write() as c:
            if self._state(c, search_id) not in _SERVED:
                return []
            rows = self._claimable(c, search_id, lock=True, limit=count)
            return [self._give(c, search_id, row, client) for row in rows if not self._gave_up(c, row)]

    def heartbeat(self, search_id: int, number: int, token: str) -> float:
        """Hold a lease for another `lease_s`; nothing if the evaluation has ended.

        Returns:
            Seconds from now for which it is held.

        Raises:
            NotFound: the search does not wait for this trial.
            Conflict: another client has it, or the search is over.
        """
        with self._db.write() as c:
            row = self._mine(c, search_id, number, token)
            if row["state"] == "leased":
                self._hold(c, search_id, row)
            return float(row["task"]["lease_s"])

    def report(self, search_id: int, number: int, token: str, progress: Progress) -> bool:
        """Note a step of an evaluation, which holds its lease, too; the same step again is answered the same.

        Returns:
            Whether the evaluation has to end: it is below its threshold at a rung, and pruned by that.

        Raises:
            NotFound, Conflict: as `heartbeat`; Conflict also for a step before the last one.
            SearchError: it passes a rung without an accuracy.
            EvaluationError: the accuracy is none, or there are too many reports.
        """
        with self._db.write() as c:
            row = self._mine(c, search_id, number, token)
            steps: list[dict[str, Any]] = row["steps"]
            known = {s["step"] for s in steps}
            if row["state"] == "ended":
                if row["outcome"].get("pruned_at") is None and progress.step not in known:
                    raise Conflict(f"trial {number} has ended already: no step {progress.step} can follow")
                return row["outcome"].get("pruned_at") is not None and progress.step >= row["outcome"]["pruned_at"]
            if progress.step in known:
                self._hold(c, search_id, row)
                return False
            if known and progress.step < max(known):
                raise Conflict(f"trial {number} is after step {max(known)}: step {progress.step} comes too late")
            told = {"step": progress.step, "steps": progress.steps, "metrics": dict(progress.metrics)}
            if len(steps) >= MAX_STEPS or len(json.dumps([*steps, told])) > MAX_STEPS_BYTES:
                raise EvaluationError(
                    f"trial {number} has {len(steps)} reports; no more than {MAX_STEPS}, and "
                    f"{MAX_STEPS_BYTES // 1024} KiB in all, are kept: report fewer steps or metrics"
                )
            climb = _climb(row)
            try:
                climb.hear(progress)
            except Stop:
                reached, step = climb.reached, progress.step
                outcome = {"accuracy": reached[str(step)], "extras": {"rungs": reached}, "pruned_at": step}
                self._end(c, search_id, row, outcome, steps=[*steps, told])
                return True
            self._hold(c, search_id, row, steps=[*steps, told])
            return False

    def tell(
        self,
        search_id: int,
        number: int,
        token: str,
        *,
        accuracy: float | None = None,
        extras: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """End an evaluation, by its accuracy or by why it failed; the same token again changes nothing.

        Raises:
            NotFound, Conflict: as `heartbeat`.
            SearchError: it left out a rung.
            EvaluationError: the accuracy is none.
        """
        with self._db.write() as c:
            row = self._mine(c, search_id, number, token)
            if row["state"] == "ended":
                return
            outcome: dict[str, Any] = {"error": error}
            if error is None:
                if accuracy is None or not 0.0 <= accuracy <= 1.0:
                    raise EvaluationError(f"trial {number} was told the accuracy {accuracy}, which is not in [0, 1]")
                climb = _climb(row)
                climb.finish()
                rungs = {"rungs": climb.reached} if climb.reached else {}
                outcome = {"accuracy": float(accuracy), "extras": {**(extras or {}), **rungs}}
            self._end(c, search_id, row, outcome)

    # Parts -------------------------------------------------------------------------------------------------------

    def _row(self, connection: sa.Connection, search_id: int, number: int) -> Mapping[Any, Any] | None:
        query = sa.select(evaluations).where(_is(search_id, number)).with_for_update()
        return connection.execute(query).mappings().first()

    def _mine(self, connection: sa.Connection, search_id: int, number: int, token: str) -> Mapping[Any, Any]:
        row = self._row(connection, search_id, number)
        if row is None:
            raise NotFound(f"search {search_id} does not wait for trial {number}; ask for another one")
        if row["token"] is None or not secrets.compare_digest(row["token"], token):
            silent = f"nothing was heard of it for {row['task']['lease_s']:g} s"
            others = {"ended": "the trial has ended without it", "open": "the search was stopped meanwhile"}
            why = others.get(row["state"], silent)
            raise Conflict(
                f"trial {number} of search {search_id} is no longer this client's: {why}; ask for another one"
            )
        state = self._state(connection, search_id)
        if row["state"] != "ended" and state in _OVER:
            raise Conflict(f"search {search_id} is {state}: nothing more counts")
        return row

    def _state(self, connection: sa.Connection, search_id: int) -> str | None:
        return connection.execute(sa.select(searches.c.state).where(searches.c.id == search_id)).scalar()

    def _claimable(
        self, connection: sa.Connection, search_id: int, *, lock: bool = False, limit: int | None = None
    ) -> Sequence[Mapping[Any, Any]]:
        ran_out = (evaluations.c.state == "leased") & (evaluations.c.lease_until < self._db.now(connection))
        query = sa.select(evaluations).where(
            evaluations.c.search_id == search_id, (evaluations.c.state == "open") | ran_out
        )
        query = query.order_by(evaluations.c.number).limit(limit)
        return connection.execute(query.with_for_update(skip_locked=True) if lock else query).mappings().all()

    def _lost(
        self, connection: sa.Connection, before: dt.datetime, *, lock: bool = False
    ) -> Sequence[Mapping[Any, Any]]:
        """Those whose last lease ran out before a moment, without their reports."""
        columns = [evaluations.c[name] for name in ("search_id", "number", "task", "attempts", "leased_at")]
        query = sa.select(*columns).where(
            evaluations.c.state == "leased",
            evaluations.c.lease_until < before,
            evaluations.c.search_id.in_(sa.select(searches.c.id).where(searches.c.state.in_(_SERVED))),
        )
        found = connection.execute(query.with_for_update(skip_locked=True) if lock else query).mappings().all()
        return [row for row in found if row["attempts"] >= row["task"]["attempts"]]

    def _gave_up(self, connection: sa.Connection, row: Mapping[Any, Any]) -> bool:
        """Whether an evaluation was lost too often; it has failed then."""
        if row["attempts"] < row["task"]["attempts"]:
            return False
        times = "once" if row["attempts"] == 1 else f"{row['attempts']} times"
        self._end(connection, row["search_id"], row, {"error": f"its evaluator was lost {times}"}, token=None)
        return True

    def _give(self, connection: sa.Connection, search_id: int, row: Mapping[Any, Any], client: str) -> Lease:
        task, moment = row["task"], self._db.now(connection)
        token, attempt = secrets.token_hex(16), row["attempts"] + 1
        until = moment + dt.timedelta(seconds=task["lease_s"])
        values = {"state": "leased", "client": client, "token": token, "lease_until": until}
        values |= {"attempts": attempt, "steps": [], "leased_at": moment}
        connection.execute(sa.update(evaluations).where(_is(search_id, row["number"])).values(values))
        encoding, lease_s = tuple(task["encoding"]), float(task["lease_s"])
        return Lease(row["number"], token, encoding, task["seed"], task["stop_below"], attempt, lease_s)

    def _hold(self, connection: sa.Connection, search_id: int, row: Mapping[Any, Any], **values: Any) -> None:
        until = self._db.now(connection) + dt.timedelta(seconds=row["task"]["lease_s"])
        connection.execute(
            sa.update(evaluations).where(_is(search_id, row["number"])).values(lease_until=until, **values)
        )

    def _end(
        self,
        connection: sa.Connection,
        search_id: int,
        row: Mapping[Any, Any],
        outcome: Mapping[str, Any],
        **values: Any,
    ) -> None:
        seconds = (self._db.now(connection) - row["leased_at"]).total_seconds()
        ended = {"state": "ended", "lease_until": None, "outcome": {**outcome, "seconds": max(0.0, seconds)}}
        connection.execute(sa.update(evaluations).where(_is(search_id, row["number"])).values(**ended, **values))


def _is(search_id: int, number: int) -> sa.ColumnElement[bool]:
    return (evaluations.c.search_id == search_id) & (evaluations.c.number == number)


def _climb(row: Mapping[Any, Any]) -> Climb:
    """The evaluation's way from rung to rung as far as it was reported."""
    climb = Climb(row["task"]["stop_below"], "remote")
    for told in row["steps"]:
        climb.hear(Progress(told["step"], told["steps"], told["metrics"]))
    return climb
