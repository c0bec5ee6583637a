"""Who teaches: a checkpoint, an export, or the winner of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.errors import NotFound, OptionError
from api.plans.checkpoints import pin
from api.store import Store
from api.store.searches import SearchRecord


def teacher_options(store: Store, name: str | None, student: SearchRecord) -> dict[str, Any]:
    """The evaluator's options for a teacher: a checkpoint, an export, or a search whose winner has been trained.

    Raises:
        OptionError: it is none of these, or the very search that is to learn.
        WeightsError: it cannot be read.
    """
    if name is None:
        return {}
    path = Path(name).expanduser()
    if path.exists():
        return pin("teacher", path)
    try:
        found = store.searches.get(name)
    except NotFound:
        raise OptionError(f"teacher {name!r} is neither a file, a folder nor a search") from None
    return search_teacher(store, found, student)


def search_teacher(store: Store, record: SearchRecord, student: SearchRecord) -> dict[str, Any]:
    """The evaluator's options for the winner of a search as the teacher.

    Raises:
        OptionError: it has no trained winner, or is the very search that is to learn.
        DataError: its data is not what the winner was trained on.
    """
    from api.compose import reopen
    from api.export.bundle import write_torch
    from api.finals.contestants import finalist
    from api.finals.train import Trainings
    from api.finals.winner import load_trained, options_here
    from nas.weights.files import FACTS

    if record.id == student.id:
        raise OptionError(f"search {record.name!r} cannot teach itself; export its winner and name the folder")
    known = record.winner or {}
    if "options" not in known:
        raise OptionError(
            f"search {record.name!r} has no trained winner to learn from; train it: nas train {record.name}"
        )
    trial = store.searches.trial(record.id, int(known["trial"]))
    plan, seed = reopen(store, record), int(known["seed"])
    contestant, trainings = finalist(plan, trial), Trainings(store, record, options_here(store, plan, known["options"]))
    dataset, model = load_trained(trainings, contestant, seed, known=known)
    folder = trainings.folder / trainings.key(contestant, seed) / "network"
    folder.mkdir(parents=True, exist_ok=True)
    write_torch(folder, contestant.graph, model.folded)
    facts = {"classes": list(dataset.classes), "mean": list(dataset.mean), "std": list(dataset.std)}
    (folder / FACTS).write_text(json.dumps(facts))
    return pin("teacher", folder)
