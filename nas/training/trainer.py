"""Trainer: one network, one data set, epoch by epoch; exact to resume."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.data import Dataset, Part
from nas.errors import EvaluationError, SearchError
from nas.evaluator import Progress, Report
from nas.graph import Graph
from nas.network import Network
from nas.training import checkpoint
from nas.training.augment import augment, draw
from nas.training.average import Average
from nas.training.ranks import ALONE, Ranks
from nas.training.recipe import Recipe
from nas.training.teacher import Teacher, distillation_loss
from nas.weights import Fit, settle

CHECKPOINT = "checkpoint.pt"
MOMENTUM = 0.9
SETTLING = 256  # pictures


@dataclass(frozen=True)
class Score:
    """How a network does on one part of the data.

    Attributes:
        accuracy: in [0, 1].
        recall: class -> share of its pictures that were recognised.
        hits: (pictures,) True where it was right.
    """

    accuracy: float
    recall: dict[str, float]
    hits: NDArray[np.bool_]


def choose_device(name: str) -> torch.device:
    """The device `auto`, `cpu` or `cuda` names here. Raises EvaluationError if it is absent."""
    if name not in ("auto", "cpu", "cuda"):
        raise EvaluationError(f"device is {name!r}; it must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise EvaluationError("device is cuda, but this torch sees no CUDA device; use device=auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Start(Protocol):
    """Weights to start from (`nas.weights.Weights`, or what stands for them until they are needed)."""

    @property
    def digest(self) -> str:
        """Sha256 (hex) of them."""

    def fit(self, network: Network) -> Fit:
        """Put into the network, in place, what it can take."""


class Trainer:
    """Trains one network. All randomness comes from (seed, epoch), so an epoch repeats whatever ran before it.

    Args:
        graph: the network; its input must be the data's shape and its output the number of classes.
        dataset: the pictures; the training pictures are trained on.
        recipe: how.
        seed: of weights, order and augmentation.
        device: where; on CUDA with float16 where `amp` says so.
        amp: mixed precision on CUDA; the CPU always computes in float32.
        workdir: holds the checkpoint.
        init: weights to start from, where they fit; read when a training begins.
        teacher: a network to learn from beside the labels; read when it is asked first.
        ranks: which of several processes this is, each training on its part of every batch.

    Attributes:
        fit: what `init` gave, as JSON types; None without it, or before the training began.
        history: per epoch its number, loss and, where it was validated, accuracy.
        preceded: whether the folder holds a finished training of something else, made before its data changed; known
            after `resume`.

    Raises:
        EvaluationError: graph and data do not fit, or the batch is too small for so many processes.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        amp: bool,
        workdir: Path,
        init: Start | None = None,
        teacher: Teacher | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        if graph.input.shape != dataset.input or graph.output.shape != (len(dataset.classes), 1, 1):
            need = (len(dataset.classes), 1, 1)
            raise EvaluationError(
                f"a network {graph.input.shape} -> {graph.output.shape} cannot learn {dataset.spec}, which is "
                f"{dataset.input} -> {need}; build the space for {need[0]} classes"
            )
        if recipe.batch < 2 * ranks.count:
            raise EvaluationError(f"a batch of {recipe.batch} is too small for {ranks.count} GPUs; raise batch")
        self.dataset, self.recipe, self.seed, self.device = dataset, recipe, seed, device
        self.amp = amp and device.type == "cuda"
        self.history: list[dict[str, float]] = []
        self.preceded = False
        self._path = workdir / CHECKPOINT
        self._identity = _identity(graph, dataset, recipe, seed, init, teacher)
        self._init, self._teacher, self._ranks = init, teacher, ranks
        self.fit: dict[str, Any] | None = None
        self._student = Network(graph, seed=_seed(seed, 0)).to(device)
        mean, std = (torch.tensor(v, device=device)[None, :, None, None] for v in (dataset.mean, dataset.std))
        self._mean, self._std = mean, std
        self._average: Average | None = None
        self._model = ranks.wrap(self._student, device)
        decayed = [p for p in self._student.parameters() if p.ndim > 1]
        plain = [p for p in self._student.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=MOMENTUM, nesterov=True)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.amp)

    @property
    def network(self) -> Network:
        """What is judged and kept: the average of the weights where the recipe has one."""
        return self._student if self._average is None else self._average.network

    @property
    def done(self) -> bool:
        """Whether every epoch has been trained, as far as known: before `run` or `resume`, none has."""
        return len(self.history) == self.recipe.epochs

    def run(self, report: Report) -> None:
        """Train to the last epoch, from the checkpoint if there is one; its epochs are reported again.

        Raises:
            EvaluationError: the loss is not finite, or the device's memory does not suffice.
            SearchError: the checkpoint cannot be written.
        """
        self.resume()
        for entry in self.history:
            self._tell(report, entry)
        if not self.history:
            self.begin()
        try:
            for epoch in range(len(self.history), self.recipe.epochs):
                entry = {"epoch": epoch + 1, "loss": self._epoch(epoch)}
                if self._ranks.first:
                    entry["val_accuracy"] = self.score(self.dataset.val).accuracy
                self.history.append(entry)
                if self._ranks.first:
                    self._save()
                    self._tell(report, entry)
        except torch.OutOfMemoryError as e:
            raise EvaluationError(f"{self.device} ran out of memory; lower the batch ({self.recipe.batch})") from e

    def score(self, part: Part) -> Score:
        """Accuracy and per-class recall on some pictures."""
        network, hits = self.network.eval(), np.zeros(len(part), np.bool_)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.float16, enabled=self.amp):
            for start in range(0, len(part), 2 * self.recipe.batch):  # no gradients: twice as many fit
                rows = slice(start, start + 2 * self.recipe.batch)
                answers = network(self._normalise(self._pictures(part, rows))).argmax(1).cpu().numpy()
                hits[rows] = answers == part.y[rows]
        classes = len(self.dataset.classes)
        recall = np.bincount(part.y[hits], minlength=classes) / np.bincount(part.y, minlength=classes)
        named = dict(zip(self.dataset.classes, recall.tolist(), strict=True))
        return Score(float(hits.sum() / len(part)), named, hits)

    def state_dict(self) -> dict[str, Tensor]:
        """The network's weights and statistics, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def _epoch(self, epoch: int) -> float:
        """One pass over the training pictures; the mean loss."""
        self._model.train()
        recipe, train = self.recipe, self.dataset.train
        generator = torch.Generator().manual_seed(_seed(self.seed, epoch + 1))
        total = torch.zeros((), device=self.device)
        batches = list(self._batches(generator))
        for number, rows in enumerate(batches):
            lr = self._lr((epoch * len(batches) + number + 0.5) / (recipe.epochs * len(batches)))
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            own = self._ranks.part(len(rows))
            x = self._pictures(train, rows[own])
            if recipe.augment != "none":
                drawn = draw(recipe.augment, len(rows), generator)[own]
                x = augment(recipe.augment, x, drawn, flip=self.dataset.flip)
            y = torch.from_numpy(train.y[rows[own]]).to(self.device)
            loss = self._loss(self._normalise(x), y)
            self._optimizer.zero_grad(set_to_none=True)
            # Gradients are averaged over the processes, whose parts of the batch may differ by a picture.
            share = len(y) * self._ranks.count / len(rows)
            self._scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            if self._average is not None:
                self._average.update(self._student)
            total += loss.detach() * len(y)
        mean = float(self._ranks.sum(total)) / len(train)
        if not math.isfinite(mean):
            raise EvaluationError(f"the loss is {mean} in epoch {epoch + 1}; lower lr ({recipe.lr:g})")
        return mean

    def begin(self) -> None:
        """Start from given weights, and the average from there."""
        if self._init is not None:
            fit = self._init.fit(self._student)
            if fit.unsettled:
                rows = np.unique(np.linspace(0, len(self.dataset.train) - 1, SETTLING).astype(np.int64))
                settle(self._student, fit.unsettled, self._normalise(self._pictures(self.dataset.train, rows)))
            self.fit = fit.to_dict()
        self._follow()

    def _follow(self) -> None:
        self._average = Average(self._student, self.recipe.ema) if self.recipe.ema else None

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean loss of normalised pictures x (n, c, h, w) with labels y (n,)."""
        recipe, teacher = self.recipe, self._teacher
        with torch.autocast(self.device.type, torch.float16, enabled=self.amp):
            logits = self._model(x)
            answers = None if teacher is None else teacher.logits(x)
        loss = functional.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
        if answers is None:
            return loss
        distilled = distillation_loss(logits.float(), answers, recipe.temperature)
        return (1 - recipe.distil) * loss + recipe.distil * distilled

    def _batches(self, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
        """Shuffled rows in batches of nearly equal size: none so small that a norm could not be computed.

        A batch may hold a picture more than the recipe says, where one would else be left alone.
        """
        order = torch.randperm(len(self.dataset.train), generator=generator)
        in_pairs = max(1, len(order) // 2)
        for rows in torch.tensor_split(order, min(in_pairs, math.ceil(len(order) / self.recipe.batch))):
            yield rows.numpy()

    def _lr(self, done: float) -> float:
        """Learning rate when a share `done` of all steps is done; the first tenth, at most 5 epochs, warms up."""
        warm = min(0.1, 5 / self.recipe.epochs)
        if done < warm:
            return self.recipe.lr * done / warm
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))

    def _pictures(self, part: Part, rows: slice | NDArray[np.int64]) -> Tensor:
        """(n, c, h, w) floats in [0, 1] on the device."""
        x = torch.from_numpy(np.ascontiguousarray(part.x[rows])).to(self.device, non_blocking=True)
        return x.to(torch.float32) / 255

    def _normalise(self, x: Tensor) -> Tensor:
        return (x - self._mean) / self._std

    def _tell(self, report: Report, entry: dict[str, float]) -> None:
        metrics = {name: value for name, value in entry.items() if name != "epoch"}
        report(Progress(int(entry["epoch"]), self.recipe.epochs, metrics))

    def _save(self) -> None:
        state: dict[str, Any] = {
            "identity": self._identity,
            "history": self.history,
            "network": self.network.state_dict(),
            "fit": self.fit,
        }
        if not self.done:  # a finished training is only read
            state |= {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}
            if self._average is not None:
                state |= {"student": self._student.state_dict(), "averaged_steps": self._average.steps}
        with self._disk():
            if len(self.history) == 1:  # what was taken up is its own
                self._set_aside()
            checkpoint.save(self._path, state)

    def _set_aside(self) -> None:
        """Keep the finished training of something else that lies where this one will.

        It cannot be made again while the data is not as it was; when that is put back, `resume` finds it.
        """
        state = checkpoint.load(self._path)
        if _is_finished(state) and state.get("identity") != self._identity:
            self._path.replace(self._aside(str(state.get("identity"))))

    def _aside(self, identity: str) -> Path:
        stem, suffix = CHECKPOINT.split(".")
        return self._path.with_name(f"{stem}-{identity[:16]}.{suffix}")

    def resume(self) -> None:
        """Take up the checkpoint, if there is one of this very training, also one that was set aside.

        Raises:
            SearchError: the disk fails.
        """
        own_aside = self._aside(self._identity)
        with self._disk():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            state = latest = checkpoint.load(self._path)
            if latest is None or latest.get("identity") != self._identity:
                state = checkpoint.load(own_aside)
            others = {*self._path.parent.glob(self._aside("*").name)} - {own_aside}
        self.preceded = bool(others) or (_is_finished(latest) and latest.get("identity") != self._identity)
        if state is None or state.get("identity") != self._identity:
            return
        self.history, self.fit = state["history"], state.get("fit")
        self._student.load_state_dict(state.get("student", state["network"]))
        self._follow()
        if self.done:
            return
        if self._average is not None:
            self._average.network.load_state_dict(state["network"])
            self._average.steps = state["averaged_steps"]
        self._optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # a CPU's is empty, and on CUDA the training goes on with a fresh one
            self._scaler.load_state_dict(state["scaler"])

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """A disk that fails is no fault of the network: it must stop the search, not fail its trials one by one."""
        try:
            yield
        except OSError as e:
            raise SearchError(f"checkpoint {self._path}: {e.strerror or e}; make room there and start again") from e


def _is_finished(state: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a checkpoint is there and is a finished training's, which has nothing left to go on with."""
    return state is not None and "optimizer" not in state


def _seed(seed: int, epoch: int) -> int:
    """For a torch generator; epoch 0 means the initial weights."""
    state = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def _identity(
    graph: Graph, dataset: Dataset, recipe: Recipe, seed: int, init: Start | None, teacher: Teacher | None
) -> str:
    """Equal exactly for trainings that would go the same way, but for the rounding of the device they run on."""
    # False stands where mixed precision once did, so that checkpoints of CPU trainings of that time still fit.
    facts: list[Any] = [graph.to_dict(), dataset.digest, len(dataset.train), recipe.identity(), seed, False]
    facts += [["init", init.digest]] if init is not None else []
    facts += [["teacher", teacher.digest]] if teacher is not None else []
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
