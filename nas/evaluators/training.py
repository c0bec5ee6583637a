"""The `training` evaluator: each trial is a real training, judged on the validation pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.data import Dataset, Part, load_data
from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.evaluators.trainer import Recipe, Trainer, choose_device
from nas.fold import Folded, fold
from nas.graph import Graph, Shape

TRIAL = Recipe()
FINAL = Recipe(epochs=20)


class TrainingEvaluator(Evaluator):
    """Trains a network and tells its validation accuracy after the last epoch.

    On the CPU the accuracy of (architecture, options, seed) repeats exactly on one torch build and CPU model, also when
    the training was killed and resumed. On CUDA it does not.

    Args:
        data: a data spec (`nas.data.SPECS`).
        epochs: passes over the training pictures.
        batch: pictures a step.
        lr: highest learning rate.
        weight_decay: of weights.
        label_smoothing: in [0, 1).
        augment: `default` or `none`.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        amp: mixed precision on CUDA.
        threads: intra-op threads of a CPU training; other numbers give other accuracies.
        cache_dir: where decoded picture folders are kept between processes.

    Raises:
        EvaluationError: an option makes no sense.
    """

    name = "training"

    def __init__(
        self,
        *,
        data: str = "digits",
        epochs: int = TRIAL.epochs,
        batch: int = TRIAL.batch,
        lr: float = TRIAL.lr,
        weight_decay: float = TRIAL.weight_decay,
        label_smoothing: float = TRIAL.label_smoothing,
        augment: str = TRIAL.augment,
        device: str = "auto",
        amp: bool = True,
        threads: int = 1,
        cache_dir: str | None = None,
    ) -> None:
        self.data = data
        self.recipe = Recipe(epochs, batch, lr, weight_decay, label_smoothing, augment)
        self.steps = epochs
        self._device, self._amp, self._threads = choose_device(device), amp, threads
        self._cache = None if cache_dir is None else Path(cache_dir)
        self._datasets: dict[Shape, Dataset] = {}

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Train; extras hold the epochs, their history, the recall per class and the parameters."""
        graph = architecture.graph
        dataset = self._dataset(graph.input.shape)
        with intra_op_threads(self._threads):
            trainer = Trainer(
                graph,
                dataset,
                dataset.train,
                self.recipe,
                seed=seed,
                device=self._device,
                amp=self._amp,
                workdir=workdir,
            )
            trainer.run(report)
            score = trainer.score(dataset.val)
        extras = {
            "epochs": self.recipe.epochs,
            "history": trainer.history,
            "recall": score.recall,
            "params": graph.params,
        }
        return Evaluation(score.accuracy, extras)

    def close(self) -> None:
        """Free the pictures."""
        self._datasets.clear()

    def _dataset(self, shape: Shape) -> Dataset:
        # One per input shape: resolution may be a gene.
        if shape not in self._datasets:
            c, h, w = shape
            self._datasets[shape] = load_data(self.data, resolution=(h, w), channels=c, cache=self._cache)
        return self._datasets[shape]


@dataclass(frozen=True)
class TrainedModel:
    """The winner, trained to the end.

    Attributes:
        state_dict: of `Network(graph)`, on the CPU.
        folded: path -> inference weights.
        val_accuracy: None if the validation pictures were trained on.
        test_accuracy: the one look at the test pictures.
        recall: per class, on the test pictures.
        pictures: how many were trained on.
        history: per epoch.
    """

    state_dict: dict[str, Tensor]
    folded: dict[str, Folded]
    val_accuracy: float | None
    test_accuracy: float
    recall: dict[str, float]
    pictures: int
    history: list[dict[str, float]]


def train_final(
    graph: Graph,
    dataset: Dataset,
    *,
    seed: int,
    workdir: Path,
    report: Report,
    recipe: Recipe = FINAL,
    include_validation: bool = False,
    device: str = "auto",
    amp: bool = True,
    threads: int = 1,
) -> TrainedModel:
    """Train a search's winner and test it, once; resumes from `workdir` like a trial.

    Args:
        graph: the winner.
        dataset: the data it was searched with, `dataset.input` being the graph's.
        seed: of the training.
        workdir: holds the checkpoint.
        report: called after each epoch.
        recipe: how to train.
        include_validation: train on the validation pictures too. Nothing is chosen by them any more once the winner
            and the recipe are fixed, but then they say nothing about the result.
        device: `auto`, `cpu` or `cuda`.
        amp: mixed precision on CUDA.
        threads: intra-op threads of a CPU training.

    Raises:
        EvaluationError: the training failed.
    """
    train = dataset.train
    if include_validation:
        train = Part(np.concatenate([train.x, dataset.val.x]), np.concatenate([train.y, dataset.val.y]))
    with intra_op_threads(threads):
        trainer = Trainer(
            graph, dataset, train, recipe, seed=seed, device=choose_device(device), amp=amp, workdir=workdir
        )
        trainer.run(report, validate=not include_validation)
        validation = None if include_validation else trainer.score(dataset.val).accuracy
        test = trainer.score(dataset.test)
    return TrainedModel(
        state_dict=trainer.state_dict(),
        folded=fold(trainer.network),
        val_accuracy=validation,
        test_accuracy=test.accuracy,
        recall=test.recall,
        pictures=len(train),
        history=trainer.history,
    )


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads an op, and put back what was set."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
