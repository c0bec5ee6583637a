"""The `training` evaluator: each trial is a real training, judged on the validation pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from nas.data import Dataset, load_data
from nas.errors import EvaluationError, WeightsError
from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.graph import Graph, Shape
from nas.network import Network
from nas.slot import SLOT
from nas.training.ranks import ALONE, Ranks, run_ranks
from nas.training.recipe import Recipe
from nas.training.teacher import Scaling, Teacher
from nas.training.threads import intra_op_threads
from nas.training.trainer import CHECKPOINT, Trainer, choose_device
from nas.weights import Fit, Weights, exported_facts

TRIAL = Recipe()


class TrainingEvaluator(Evaluator):
    """Trains a network and tells its validation accuracy after the last epoch.

    On the CPU the accuracy of (architecture, options, seed) repeats exactly on one torch build and CPU model, also when
    the training was killed and resumed. On CUDA it does not.

    Args:
        data: a data spec (`nas.data.SPECS`).
        epochs, batch, lr, weight_decay, label_smoothing, augment, ema, distil, temperature: the recipe
            (`nas.training.recipe.Recipe`).
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        gpus: how many of them share each training; with `cpu`, processes.
        amp: mixed precision on CUDA.
        threads: intra-op threads of a CPU training; other numbers give other accuracies.
        cache_dir: where decoded picture folders are kept between processes.
        init: a checkpoint whose weights every network starts from, where they fit (`nas.weights`).
        init_digest: refuse any other checkpoint than this.
        inherit: every network starts from the weights of the trial most like it, where they fit; the first ones from
            `init`. Accuracies then depend on what was trained before.
        teacher: a checkpoint whose network's answers are learnt from.
        teacher_digest: refuse any other than this.

    Raises:
        EvaluationError: an option makes no sense.
    """

    name = "training"
    served_options: ClassVar[Mapping[str, str]] = {
        "data": "data",
        **dict.fromkeys(("init", "teacher"), "checkpoint"),
        **dict.fromkeys(("augment", "device"), "text"),
        **dict.fromkeys(("amp", "inherit"), "flag"),
        **dict.fromkeys(("epochs", "batch", "lr", "weight_decay", "label_smoothing", "ema"), "number"),
        **dict.fromkeys(("distil", "temperature", "gpus", "threads"), "number"),
    }

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
        ema: float = TRIAL.ema,
        distil: float = TRIAL.distil,
        temperature: float = TRIAL.temperature,
        device: str = "auto",
        gpus: int = 1,
        amp: bool = True,
        threads: int = 1,
        cache_dir: str | None = None,
        init: str | None = None,
        init_digest: str | None = None,
        inherit: bool = False,
        teacher: str | None = None,
        teacher_digest: str | None = None,
    ) -> None:
        counts, switches = {"gpus": gpus, "threads": threads}, {"amp": amp, "inherit": inherit}
        texts = {"cache_dir": cache_dir, "init": init, "teacher": teacher}
        texts |= {"init_digest": init_digest, "teacher_digest": teacher_digest}
        _check(counts, lambda v: type(v) is int and v >= 1, "a whole number of at least 1")  # True is no number
        _check(switches, lambda v: isinstance(v, bool), "true or false")
        _check({"data": data}, lambda v: isinstance(v, str), "a text")
        _check(texts, lambda v: v is None or isinstance(v, str), "a text")
        self.data = data
        self.recipe = Recipe(epochs, batch, lr, weight_decay, label_smoothing, augment, ema, distil, temperature)
        self.steps = epochs
        self._device, self._gpus, self._amp, self._threads = choose_device(device), gpus, amp, threads
        if self._device.type == "cuda" and gpus > torch.cuda.device_count():
            raise EvaluationError(f"training option gpus is {gpus}; here are {torch.cuda.device_count()}; give fewer")
        if self._device.type == "cpu" and gpus > max(2, os.cpu_count() or 1):
            raise EvaluationError(
                f"training option gpus is {gpus}, more processes than this machine has cores; give fewer"
            )
        self._cache = None if cache_dir is None else Path(cache_dir)
        self._init, self._inherit = _pinned("init", init, init_digest), inherit
        self._teacher = _pinned("teacher", teacher, teacher_digest)
        self._datasets: dict[Shape, Dataset] = {}

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Train; extras hold the epochs, their history, the recall per class and the parameters."""
        graph = architecture.graph
        with intra_op_threads(self._threads):
            parent = architecture.parent if self._inherit else None
            trainer = self.train(graph, seed=seed, workdir=workdir, report=report, parent=parent)
            score = trainer.score(trainer.dataset.val)
        extras = {
            "epochs": self.recipe.epochs,
            "history": trainer.history,
            "recall": score.recall,
            "params": graph.params,
            **({} if trainer.fit is None else {"init": trainer.fit}),
        }
        return Evaluation(score.accuracy, extras)

    def train(self, graph: Graph, *, seed: int, workdir: Path, report: Report, parent: Path | None = None) -> Trainer:
        """A network's trainer, its training done; one done before is taken from its checkpoint.

        Args:
            graph: the network.
            seed: of the training.
            workdir: holds its checkpoint.
            report: called after each epoch.
            parent: the folder of a training whose weights it starts from.

        Raises:
            EvaluationError: the training failed.
            WeightsError: the teacher cannot teach this network.
        """
        if self._gpus > 1:
            trainer = self.trainer(graph, seed=seed, workdir=workdir, parent=parent)
            trainer.resume()
            if not trainer.done:
                given = (self, graph.to_dict(), seed, workdir, parent)
                run_ranks(_train_rank, given, self._gpus, self._device.type, report)
                report = _silent
        trainer = self.trainer(graph, seed=seed, workdir=workdir, parent=parent)
        trainer.run(report)
        return trainer

    def trainer(
        self, graph: Graph, *, seed: int, workdir: Path, parent: Path | None = None, ranks: Ranks = ALONE
    ) -> Trainer:
        """What trains a network; arguments as for `train`, and which of several processes this is."""
        dataset = self._dataset(graph.input.shape)
        device = self._device
        if device.type == "cuda":
            # Alone, on the GPU of its slot: trainings side by side spread over the GPUs there are.
            slot = int(os.environ.get(SLOT, "0")) % torch.cuda.device_count()
            device = torch.device("cuda", ranks.index if self._gpus > 1 else slot)
        return Trainer(
            graph,
            dataset,
            self.recipe,
            seed=seed,
            device=device,
            amp=self._amp,
            workdir=workdir,
            init=self._init if parent is None else Weights.load(parent / CHECKPOINT),
            teacher=self._teach(graph.input.shape, dataset, device),
            ranks=ranks,
        )

    def check_teacher(self, shape: Shape) -> None:
        """Raises WeightsError unless the teacher, if there is one, can teach networks for pictures (c, h, w)."""
        if self._teacher is not None:
            dataset = self._dataset(shape)
            self._teacher.weights.network(shape, len(dataset.classes))
            self._teach(shape, dataset, torch.device("cpu"))

    def _teach(self, shape: Shape, dataset: Dataset, device: torch.device) -> Teacher | None:
        pinned = self._teacher
        if pinned is None:
            return None
        own = exported_facts(pinned.path)
        if own is not None and tuple(own["classes"]) != dataset.classes:
            raise WeightsError(
                f"teacher: {pinned.path} tells other classes apart than {dataset.spec}, or in another order"
            )
        scaling = None if own is None else (Scaling(dataset.mean, dataset.std), Scaling(own["mean"], own["std"]))
        return Teacher(lambda: pinned.weights.network(shape, len(dataset.classes)), pinned.digest, device, scaling)

    def close(self) -> None:
        """Free the pictures."""
        self._datasets.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_datasets": {}}  # every process reads its own

    def _dataset(self, shape: Shape) -> Dataset:
        # One per input shape: resolution may be a gene.
        if shape not in self._datasets:
            c, h, w = shape
            self._datasets[shape] = load_data(self.data, resolution=(h, w), channels=c, cache=self._cache)
        return self._datasets[shape]


@dataclass(frozen=True)
class _Pinned:
    """A checkpoint as an option names it, read when it is needed; refused if it is another than when it was named."""

    option: str
    path: Path
    pinned: str | None

    @property
    def digest(self) -> str:
        """Sha256 of its weights."""
        return self.pinned or self.weights.digest

    @cached_property
    def weights(self) -> Weights:
        """Its content. Raises WeightsError."""
        weights = Weights.load(self.path)
        if self.pinned not in (None, weights.digest):
            raise WeightsError(
                f"{self.option}: {self.path} is another file than when it was named; put the old one back "
                f"(sha256 {self.pinned})"
            )
        return weights

    def fit(self, network: Network) -> Fit:
        """Put into the network what it can take."""
        return self.weights.fit(network)


def _check(options: Mapping[str, object], fits: Callable[[object], bool], rule: str) -> None:
    for name, value in options.items():
        if not fits(value):
            raise EvaluationError(f"training option {name} is {value!r}; it must be {rule}")


def _pinned(option: str, path: str | None, digest: str | None) -> _Pinned | None:
    return None if path is None else _Pinned(option, Path(path), digest)


def _train_rank(
    ranks: Ranks, given: tuple[TrainingEvaluator, dict[str, Any], int, Path, Path | None], report: Report
) -> None:
    """One of several processes of a training."""
    evaluator, graph, seed, workdir, parent = given
    with intra_op_threads(evaluator._threads):
        trainer = evaluator.trainer(Graph.from_dict(graph), seed=seed, workdir=workdir, parent=parent, ranks=ranks)
        trainer.run(report)


def _silent(progress: object) -> None:
    """A report nobody needs."""
