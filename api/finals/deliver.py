"""From a finished search to what a user takes home: measure the winner, gather the facts, write the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from api.errors import OptionError
from api.export.bundle import Bundle, write_bundle
from api.finals.winner import Winner, won_final
from api.plans.plan import Plan
from api.store import Store
from api.store.searches import SearchRecord
from latency.link import PatientLink
from latency.passes import ProgressSink
from latency.predict import breakdown, predict_interval
from latency.verify import CONFIDENCE, Verified, verify
from nas.graph import Graph
from nas.memory import model_mb, peak_memory_mb
from nas.trial import Trial

LICENSE = "other"
"""Of an exported network, unless its owner says: weights are the user's, and so is the choice."""


RECIPE = ("batch", "lr", "weight_decay", "label_smoothing", "augment", "ema")
"""Options that a card tells; with checkpoints, their digests too."""


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
    keep_measurements(store, record, {format_trial(t): v for t, v in zip(trials, measured, strict=True)})
    return measured


def keep_measurements(store: Store, record: SearchRecord, measured: Mapping[str, Verified]) -> None:
    """Keep with a search what was measured of its networks (`format_trial`), beside earlier measurements."""
    found = {encoding: asdict(verified) for encoding, verified in measured.items()}
    store.searches.keep_winner(record.id, {"measurements": found}, join=("measurements",))


def export_winner(
    store: Store, record: SearchRecord, plan: Plan, winner: Winner, folder: Path, *, license_name: str = LICENSE
) -> Bundle:
    """Write the bundle of a trained winner with its model card.

    Raises:
        ExportError: the folder is somebody else's, or an engine disagrees with torch.
    """
    encoding = format_trial(winner.trial)
    now = store.searches.by_id(record.id)
    known = now.winner or {}
    measured = known.get("measurements", {}).get(encoding, {})
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
        "model_mb": model_mb(graph),
        "peak_memory_mb": peak_memory_mb(graph),
        **_prediction_facts(plan, graph),
        "board": _board_facts(store, record, plan),
        "budgets": dict(spec.budgets),
        "data": winner.options["data"],
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
        "recipe": _recipe(winner.options),
        "final": known["report"] if won_final(now, winner) else None,
    }
    return write_bundle(folder, graph, model, dataset, facts)


def describe_export(record: SearchRecord, winner: Winner, bundle: Bundle) -> dict[str, Any]:
    """An export as JSON types, without where it lies."""
    return {
        "search": record.name,
        "trial": winner.trial.number,
        "test_accuracy": winner.model.test_accuracy,
        "epochs": winner.epochs,
        "pictures": winner.model.pictures,
        "files": bundle.files,
        "differences": bundle.differences,
    }


def _recipe(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of a training's options decides its result; no paths."""
    names = [*RECIPE, "init_digest"] if options.get("init") else list(RECIPE)
    names += ["teacher_digest", "distil", "temperature"] if options.get("teacher") else []
    return {name: options[name] for name in names if name in options}


def _prediction_facts(plan: Plan, graph: Graph) -> dict[str, Any]:
    """How long the table says the network takes, op by op, and how the engine was set for that."""
    if plan.table is None:
        return {}
    identity, predicted = plan.table.identity, predict_interval(plan.table, graph, CONFIDENCE)
    return {
        "predicted_low_ms": predicted.low_ms,
        "predicted_high_ms": predicted.high_ms,
        "op_ms": [part.ms for part in breakdown(plan.table, graph)[: len(graph.nodes)]],
        "engine": identity.engine,
        "threads": identity.threads,
        "dtype": identity.dtype,
    }


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
