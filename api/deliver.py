"""From a finished search to what a user takes home: measure the winner, gather the facts, write the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from api.compose import Plan, Winner
from api.errors import OptionError
from api.export import Bundle, write_bundle
from api.store import Store
from api.store.searches import SearchRecord
from latency.link import PatientLink
from latency.passes import ProgressSink
from latency.verify import Verified, verify
from nas.trial import Trial

LICENSE = "other"
"""Of an exported network, unless its owner says: weights are the user's, and so is the choice."""


def format_trial(trial: Trial) -> str:
    """A trial's encoding as text."""
    return ",".join(map(str, trial.encoding))


def measure_trials(
    store: Store,
    record: SearchRecord,
    plan: Plan,
    link: PatientLink,
    trials: Sequence[Trial],
    *,
    passes: int | None = None,
    on_progress: ProgressSink | None = None,
) -> list[Verified]:
    """Run networks of a search on the board and keep what was measured with the search."""
    if plan.table is None:
        raise OptionError(f"search {record.name!r} had no latency table, so there is no prediction to compare with")
    graphs = [plan.space.graph(t.encoding) for t in trials]
    measured = verify(link.board, link.open_session, graphs, plan.table, passes=passes, on_progress=on_progress)
    kept = dict((store.searches.by_id(record.id).winner or {}).get("measurements", {}))
    kept |= {format_trial(t): asdict(v) for t, v in zip(trials, measured, strict=True)}
    _remember(store, record, {"measurements": kept})
    return measured


def remember_training(store: Store, record: SearchRecord, winner: Winner) -> None:
    """Keep a final training's accuracies with the search."""
    _remember(
        store,
        record,
        {
            "encoding": format_trial(winner.trial),
            "epochs": winner.epochs,
            "val_accuracy": winner.model.val_accuracy,
            "test_accuracy": winner.model.test_accuracy,
            "recall": winner.model.recall,
        },
    )


def _remember(store: Store, record: SearchRecord, facts: dict[str, Any]) -> None:
    store.searches.set_winner(record.id, {**(store.searches.by_id(record.id).winner or {}), **facts})


def export_winner(
    store: Store, record: SearchRecord, plan: Plan, winner: Winner, folder: Path, *, license_name: str = LICENSE
) -> Bundle:
    """Write the bundle of a trained winner with its model card.

    Raises:
        ExportError: the folder is somebody else's, or an engine disagrees with torch.
    """
    encoding = format_trial(winner.trial)
    measured = (store.searches.by_id(record.id).winner or {}).get("measurements", {}).get(encoding, {})
    graph = plan.space.graph(winner.trial.encoding)
    dataset, model, spec = winner.dataset, winner.model, plan.spec
    facts = {
        "search": record.name,
        "space": plan.space.name,
        "space_digest": plan.space.digest,
        "encoding": encoding,
        "genes": plan.space.decode(winner.trial.encoding),
        "license": license_name,
        "test_accuracy": model.test_accuracy,
        "val_accuracy": model.val_accuracy,
        "search_accuracy": winner.trial.accuracy,
        "recall": model.recall,
        "flops": graph.flops,
        "params": graph.params,
        "predicted_ms": winner.trial.costs.get("latency_ms"),
        "measured_ms": measured.get("measured_ms"),
        "measured_p95_ms": measured.get("p95_ms"),
        "board": _board_facts(store, record, plan),
        "budgets": dict(spec.budgets),
        "data": spec.data,
        "data_digest": dataset.digest,
        "classes": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "input": list(graph.input.shape),
        "pictures": model.pictures,
        "epochs": winner.epochs,
        "seed": winner.seed,
        "trials": sum(store.searches.counts(record.id).values()),
        "strategy": spec.strategy,
        "history": model.history,
    }
    return write_bundle(folder, graph, model, dataset, facts)


def _board_facts(store: Store, record: SearchRecord, plan: Plan) -> dict[str, Any] | None:
    """What latency claims hold for; no addresses or key files, which are nobody else's business."""
    if plan.table is None:
        return None
    calibration = plan.table.calibration
    facts: dict[str, Any] = {
        **asdict(plan.table.identity),
        "table": plan.table.digest,
        "table_error_pct": calibration.error_pct,
        "table_noise_pct": calibration.split_half_pct,
    }
    system = (store.boards.facts(record.board or "") or {}).get("os")
    return {**facts, **({"os": system} if system else {})}
