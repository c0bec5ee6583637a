"""`nas demo`'s work: this machine as a board, profiled, searched, the winner trained, measured and exported."""

from __future__ import annotations

import datetime as dt
import re
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from api.boards.tables import find_table, plan_profile, run_profile
from api.compose import create_search, run_search
from api.errors import NotFound
from api.finals.deliver import export_winner, format_trial, measure_trials
from api.finals.winner import train_winner
from api.plans.plan import Plan, build_plan, default_confidence
from api.plans.spec import SearchSpec
from api.results.picks import describe_trial, pick_trials
from api.store import Store
from api.store.searches import SearchRecord
from latency.board import LOCAL, Board
from latency.errors import InvalidTable
from latency.link import PatientLink, WaitSink
from latency.passes import ProgressSink
from latency.predict import latency_model, missing_kernels
from latency.table import LatencyTable
from latency.verify import Verified
from nas.evaluator import Progress
from nas.feasible import FeasibleSet
from nas.search import SearchEvent, Stopped
from nas.space import SearchSpace
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

SPACE = "mobilenetv2-small"
TRIALS, PARALLEL, EPOCHS, FINAL_EPOCHS = 16, 2, 6, 20
FINAL_OPTIONS = {"epochs": FINAL_EPOCHS, "augment": "default", "ema": 0.0}
"""Stronger augmentation and an average over steps are for trainings that are longer than a demo's."""
BUDGET_SHARE = 1 / 3
"""So large a part of the space's networks keeps the budget. Not a third of the way from the fastest to the slowest
network: few networks are slow, so 95 % of them would keep that, and it would be no budget."""
CANDIDATES = 6
"""How many of the best trials are measured; the best that keeps the budget when measured wins."""


class View(Protocol):
    """Shows the demo's steps; each bar is entered for as long as its step takes."""

    def step(self, text: str) -> None:
        """A step begins."""

    def note(self, text: str) -> None:
        """Something worth telling."""

    def waiting(self, board: str) -> WaitSink:
        """Told, now and then, that the board is waited for."""

    def visits(self, text: str) -> AbstractContextManager[ProgressSink]:
        """A bar for measurements."""

    def trials(self, total: int, done: int) -> AbstractContextManager[Callable[[SearchEvent], None]]:
        """A running table of trials."""

    def epochs(self, text: str) -> AbstractContextManager[Callable[[Progress], None]]:
        """A bar for a training."""


@dataclass(frozen=True)
class Interrupted(Exception):
    """The search was stopped; what it has is kept."""

    record: SearchRecord


def board_name(host: str) -> str:
    """A board's name made of a machine's."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", host).lstrip("._-")[:64]
    return cleaned or "this-machine"


def run_demo(store: Store, folder: Path, view: View, *, trials: int = TRIALS, epochs: int = EPOCHS) -> dict[str, Any]:
    """Do it all; what happened as JSON types.

    Args:
        store: keeps board, table and search; a table made before is used again, an unfinished demo goes on.
        folder: where the winner is exported.
        view: shows how it goes.
        trials: of the search.
        epochs: of a trial.

    Raises:
        Interrupted: Ctrl-C during the search.
        LightnasError: a step failed.
    """
    seconds: dict[str, float] = {}
    began = time.monotonic()
    spec = SpaceSpec(SPACE, classes=10)
    space = spec.build()
    board = _local_board(store)
    with PatientLink(board, on_wait=view.waiting(board.name)) as link:
        with _timed(seconds, "profile"):
            table = _table(store, link, space, view)
        model = latency_model(table, space)
        (fastest, _), (slowest, _) = model.minimum(), model.maximum()
        budget_ms = float(FeasibleSet(space).distribution(model).quantile(BUDGET_SHARE))
        view.step(
            f"search {trials} networks of {SPACE} that take at most {budget_ms:.3f} ms, upper end of the prediction, "
            f"(as a third of the space does; all of it takes {fastest:.3f} to {slowest:.3f} ms)"
        )
        wanted = SearchSpec(
            space=spec,
            budgets={"latency_ms": budget_ms},
            evaluator_options={"data": "digits", "epochs": epochs, "device": "cpu"},
            trials=trials,
            parallel=PARALLEL,
            confidence=default_confidence(table),
        )
        plan = build_plan(wanted, table)
        record = _unfinished(store, plan) or create_search(
            store, plan, board=board.name, name=f"demo-{dt.datetime.now():%Y%m%d-%H%M%S}"
        )
        with _timed(seconds, "search"):
            counts = store.searches.counts(record.id)
            with view.trials(trials, counts["complete"] + counts["failed"]) as on_event:
                result = run_search(store, record, on_event=on_event)
        if result.stopped not in (Stopped.DONE, Stopped.EXHAUSTED):
            raise Interrupted(record)
        with _timed(seconds, "verify"):
            record = store.searches.by_id(record.id)  # with what the strategy thinks of it
            trial, verified = _keep_budget(store, record, plan, link, budget_ms, view)
    with _timed(seconds, "train"):
        view.step(f"train trial {trial.number} to the end ({FINAL_EPOCHS} epochs), then test it, once")
        with view.epochs("final training") as on_epoch:
            winner = train_winner(
                store,
                record,
                plan,
                trial,
                options=FINAL_OPTIONS,
                report=on_epoch,
            )
    with _timed(seconds, "export"):
        view.step(f"export it to {folder} and check that onnxruntime and ncnn compute the same")
        bundle = export_winner(store, record, plan, winner, folder)
    seconds["total"] = time.monotonic() - began
    about = describe_trial(trial)
    return {
        "board": board.name,
        "table": table.digest,
        "search": record.name,
        "ops": len(table.entries),
        "cover_networks": table.provenance.networks,
        "table_error_pct": table.calibration.error_pct,
        "budget_ms": budget_ms,
        "latency_range_ms": [fastest, slowest],
        "trials": result.trials,
        "best": {
            "encoding": about["encoding"],
            "accuracy": trial.accuracy,
            "test_accuracy": winner.model.test_accuracy,
            "predicted_ms": verified.predicted_ms,
            "measured_ms": verified.measured_ms,
            "flops": about["flops"],
            "params": about["params"],
        },
        "files": [str(bundle.folder.absolute() / name) for name in bundle.files],
        "seconds": {k: round(v, 3) for k, v in seconds.items()},
    }


class _timed:  # noqa: N801 - used like a function
    """Adds a block's wall time to a mapping."""

    def __init__(self, seconds: dict[str, float], key: str) -> None:
        self._seconds, self._key = seconds, key

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._key] = time.monotonic() - self._began


def _local_board(store: Store) -> Board:
    """This machine as a board, registered now or by an earlier demo."""
    name = board_name(socket.gethostname())
    known = {b.name: b for b in store.boards.all()}
    if name in known and not known[name].is_local:
        name = f"{name[:58]}-local"
    if name in known:
        return known[name]
    board = Board(name, LOCAL)
    store.boards.add(board)
    return board


def _table(store: Store, link: PatientLink, space: SearchSpace, view: View) -> LatencyTable:
    """The board's table of the space: an earlier one that still holds, or a new one."""
    board = link.board
    try:
        table = find_table(store, board.name, space)
        fresh = table.identity.engine_version == link.deployment.engine_version
        if fresh and not missing_kernels(table, space.compiled.places):
            view.step(f"use the latency table of {board.name} made before ({table.digest[:12]})")
            return table
    except (NotFound, InvalidTable):
        pass
    view.step(f"profile {space.name} on this machine, board {board.name}: once per board")
    with view.visits("profile") as on_progress:
        profile = run_profile(store, plan_profile(store, link, space), command="nas demo", on_progress=on_progress)
    view.note(
        f"{profile.ops} ops in {profile.networks} networks, {profile.passes} passes; on whole networks the "
        f"prediction is off by {profile.table.calibration.error_pct:.1f} % on average"
    )
    return profile.table


def _unfinished(store: Store, plan: Plan) -> SearchRecord | None:
    """An earlier demo's search that was stopped, if it asked for the same."""
    for record in store.searches.page(limit=20):
        same = record.spec == plan.spec.to_dict() and record.space_digest == plan.space.digest
        if same and record.name.startswith("demo-") and record.state != "complete":
            return record
    return None


def _keep_budget(
    store: Store, record: SearchRecord, plan: Plan, link: PatientLink, budget_ms: float, view: View
) -> tuple[Trial, Verified]:
    """The best trial that keeps the budget when measured, and its measurement."""
    candidates = pick_trials(store, record, CANDIDATES)
    view.step(f"run the best {len(candidates)} networks on {link.board.name}: predicted beside measured")
    with view.visits("verify") as on_progress:
        measured = measure_trials(store, record, plan, link, candidates, on_progress=on_progress)
    for trial, result in zip(candidates, measured, strict=True):
        view.note(
            f"trial {trial.number}: predicted {result.predicted_ms:.3f} ms, measured {result.measured_ms:.3f} ms "
            f"({result.error_pct:+.1f} %)"
        )
    for trial, result in zip(candidates, measured, strict=True):
        if result.measured_ms <= budget_ms:
            return trial, result
        view.note(
            f"trial {trial.number} ({format_trial(trial)}) was predicted inside the budget, but measured it takes "
            f"{result.measured_ms:.3f} ms: the next best is taken"
        )
    closest = min(zip(candidates, measured, strict=True), key=lambda pair: pair[1].measured_ms)
    view.note("none of them keeps the budget when measured; the fastest is taken")
    return closest
