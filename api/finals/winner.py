"""A network of a search, trained to the end: from its checkpoint where there is one, else trained now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.errors import OptionError
from api.finals.contestants import Contestant, finalist
from api.finals.spec import final_options
from api.finals.train import Trainings, decisive, final_seeds
from api.plans.plan import Plan
from api.results.picks import pick_trial
from api.store import Store
from api.store.searches import SearchRecord
from nas.errors import DataError
from nas.evaluator import Progress
from nas.trial import Trial, TrialState

if TYPE_CHECKING:
    from nas.data import Dataset
    from nas.evaluators.training import TrainingEvaluator
    from nas.training.final import TrainedModel


@dataclass(frozen=True)
class Winner:
    """A search's network, trained to the end.

    Attributes:
        trial: of the search.
        dataset: what it was trained and tested on.
        model: weights and accuracies.
        options: of the evaluator `training`.
        seed: of the final training.
    """

    trial: Trial
    dataset: Dataset
    model: TrainedModel
    options: Mapping[str, Any]
    seed: int

    @property
    def epochs(self) -> int:
        """Of the final training."""
        return int(self.options["epochs"])


def choose_trial(store: Store, record: SearchRecord, number: int | None) -> Trial:
    """The trial asked for, else the one a final has chosen, else the one the search recommends.

    Raises:
        NotFound: no such trial.
        OptionError: it is not complete, or none is.
    """
    known = record.winner or {}
    if number is None and "report" in known:
        number = known["trial"]
    if number is None:
        return pick_trial(store, record)
    trial = store.searches.trial(record.id, number)
    if trial.state is not TrialState.COMPLETE:
        raise OptionError(f"trial {number} of {record.name!r} is {trial.state.value}; choose a complete one")
    return trial


def won_final(record: SearchRecord, winner: Winner) -> bool:
    """Whether these are the very weights that won the search's final."""
    known = record.winner or {}
    same = _is_training_of(known, winner.trial, winner.seed, winner.options)
    return "report" in known and same and of_same_data(known, winner.dataset)


def of_same_data(known: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether a stored winner was trained on these pictures; True where that was not kept yet."""
    return known.get("data_digest") in (None, dataset.digest)


def options_here(store: Store, plan: Plan, options: Mapping[str, Any]) -> dict[str, Any]:
    """A training's options, to read it here: where it was trained says nothing of where it is read now."""
    cache = final_options(plan.spec, {}, store.settings)["cache_dir"]
    return {**options, "device": "auto", "gpus": 1, "cache_dir": cache}


def train_winner(
    store: Store,
    record: SearchRecord,
    plan: Plan,
    trial: Trial,
    *,
    options: Mapping[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Winner:
    """Train a trial's network to the end and test it; a training done before is taken from its checkpoint.

    Args:
        store: keeps what comes out.
        record: the search.
        plan: of it.
        trial: whose network.
        options: of the evaluator, as for `FinalSpec`; none that decide the result: as the network was trained last.
        report: called after each epoch.

    Raises:
        OptionError: the search did not train on pictures, so there is nothing to train on.
        EvaluationError: the training failed.
        DataError: the data is not what the network was trained on.
    """
    given = dict(options or {})
    seed, chosen = final_seeds(plan.spec.seed, 1)[0], final_options(plan.spec, given, store.settings)
    before = None if decisive(given) else _trained_before(store, record, trial)
    if before is not None:
        seed, chosen = before[1], {**options_here(store, plan, before[0]), **given}
    known = record.winner or {}
    if not _is_training_of(known, trial, seed, chosen):
        known = {}
    contestant, trainings = finalist(plan, trial), Trainings(store, record, chosen)
    began = time.monotonic()
    dataset, model = load_trained(trainings, contestant, seed, report, known=known, anew=not known)
    seconds = time.monotonic() - began
    facts = {"val_accuracy": model.val_accuracy, "history": model.history, "init": model.fit}
    tested = {"test_accuracy": model.test_accuracy, "recall": model.recall}
    trainings.keep(contestant, seed, {**facts, **tested, "seconds": seconds})
    winner = Winner(trial, dataset, model, chosen, seed)
    # A final's choice stands, also that of one which ended while this trained.
    store.searches.keep_winner(record.id, describe_winner(winner), unless="report")
    return winner


def _is_training_of(known: Mapping[str, Any], trial: Trial, seed: int, options: Mapping[str, Any]) -> bool:
    """Whether a stored winner is this training, whatever pictures it had."""
    same = known.get("trial") == trial.number and known.get("seed") == seed
    return same and decisive(known["options"]) == decisive(options)


def _trained_before(store: Store, record: SearchRecord, trial: Trial) -> tuple[dict[str, Any], int] | None:
    """Options and seed of the trial's last training; in a final, of its best seed."""
    known = record.winner or {}
    if "report" in known and known["trial"] == trial.number:
        return known["options"], int(known["seed"])
    own = [t for t in store.trainings.of(record.id) if t.trial == trial.number]
    if not own:
        return None
    last = decisive(max(own, key=lambda t: t.created_at).options)
    best = max((t for t in own if decisive(t.options) == last), key=lambda t: t.val_accuracy)
    return best.options, best.seed


def load_trained(
    trainings: Trainings,
    contestant: Contestant,
    seed: int,
    report: Callable[[Progress], None] = lambda progress: None,
    evaluator: TrainingEvaluator | None = None,
    known: Mapping[str, Any] | None = None,
    anew: bool = False,
) -> tuple[Dataset, TrainedModel]:
    """A contestant's data and trained network, tested; trained here and now if there is no checkpoint of it.

    Where the data has changed since, the weights that were chosen cannot be made, and others would not be what was
    chosen: so this refuses. A final trains anew, which also chooses anew, and so does who asks for a network that none
    has chosen; their trainings set the earlier ones aside, and find them when the data is put back.

    Args:
        trainings: whose options count, and where the checkpoints are.
        contestant: the network.
        seed: of its training.
        report: called after each epoch.
        evaluator: made of these options, if there is one already.
        known: what was kept of this training as the search's winner, if it is.
        anew: train anew where the data has changed.

    Raises:
        EvaluationError: the training failed.
        DataError: the data is not what this was trained on.
    """
    from nas.evaluators.training import TrainingEvaluator
    from nas.training.final import assess
    from nas.training.threads import intra_op_threads

    evaluator = evaluator or TrainingEvaluator(**trainings.options)
    folder = trainings.folder / trainings.key(contestant, seed)
    with intra_op_threads(int(trainings.options.get("threads", 1))):
        begun = evaluator.trainer(contestant.graph, seed=seed, workdir=folder)
        begun.resume()
        replaced = begun.preceded and not begun.done and not anew
        if replaced or not of_same_data(known or {}, begun.dataset):
            raise DataError(
                f"search {trainings.record.name!r}: {contestant.label} was trained on other pictures than "
                f"{begun.dataset.spec} holds now, or they were decoded otherwise; put them back as they were, or train "
                f"and choose anew on these: nas train {trainings.record.name}"
            )
        trainer = evaluator.train(contestant.graph, seed=seed, workdir=folder, report=report)
        return trainer.dataset, assess(trainer)


def describe_winner(winner: Winner) -> dict[str, Any]:
    """What is kept of a winner with its search."""
    return {
        "trial": winner.trial.number,
        "encoding": ",".join(map(str, winner.trial.encoding)),
        "options": dict(winner.options),
        "seed": winner.seed,
        "epochs": winner.epochs,
        "data_digest": winner.dataset.digest,
        "val_accuracy": winner.model.val_accuracy,
        "test_accuracy": winner.model.test_accuracy,
        "recall": winner.model.recall,
    }
