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
    same = known.get("trial") == winner.trial.number and known.get("seed") == winner.seed
    return "report" in known and same and decisive(known["options"]) == decisive(winner.options)


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
    """
    given = dict(options or {})
    seed, chosen = final_seeds(plan.spec.seed, 1)[0], final_options(plan.spec, given, store.settings)
    before = None if decisive(given) else _trained_before(store, record, trial)
    if before is not None:
        # Where it was trained says nothing of where it is read now.
        here = {"device": "auto", "gpus": 1, "cache_dir": chosen["cache_dir"]}
        seed, chosen = before[1], {**before[0], **here, **given}
    contestant, trainings = finalist(plan, trial), Trainings(store, record, chosen)
    began = time.monotonic()
    dataset, model = load_trained(trainings, contestant, seed, report)
    seconds = time.monotonic() - began
    facts = {"val_accuracy": model.val_accuracy, "history": model.history, "init": model.fit}
    tested = {"test_accuracy": model.test_accuracy, "recall": model.recall}
    trainings.keep(contestant, seed, {**facts, **tested, "seconds": seconds})
    winner = Winner(trial, dataset, model, chosen, seed)
    if "report" not in (record.winner or {}):  # else the final's choice stands
        store.searches.keep_winner(record.id, describe_winner(winner))
    return winner


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
) -> tuple[Dataset, TrainedModel]:
    """A contestant's data and trained network, tested; trained here and now if there is no checkpoint of it.

    Args:
        trainings: whose options count, and where the checkpoints are.
        contestant: the network.
        seed: of its training.
        report: called after each epoch.
        evaluator: made of these options, if there is one already.
    """
    from nas.evaluators.training import TrainingEvaluator
    from nas.training.final import assess
    from nas.training.threads import intra_op_threads

    evaluator = evaluator or TrainingEvaluator(**trainings.options)
    folder = trainings.folder / trainings.key(contestant, seed)
    with intra_op_threads(int(trainings.options.get("threads", 1))):
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
        "val_accuracy": winner.model.val_accuracy,
        "test_accuracy": winner.model.test_accuracy,
        "recall": winner.model.recall,
    }
