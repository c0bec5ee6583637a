"""Trainer: one network, one data set, epoch by epoch; exact to resume."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.data import Dataset, Part
from nas.errors import EvaluationError, SearchError
from nas.evaluator import Progress, Report
from nas.evaluators import checkpoint
from nas.evaluators.augment import augment
from nas.graph import Graph
from nas.network import Network

CHECKPOINT = "checkpoint.pt"
MOMENTUM = 0.9


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum, a linear warm-up, then a cosine to zero (arXiv 1608.03983).

    Attributes:
        epochs: passes over the training pictures: a trial's fidelity.
        batch: pictures a step.
        lr: the highest learning rate, reached after the warm-up.
        weight_decay: of weights; norms and biases have none.
        label_smoothing: arXiv 1512.00567.
        augment: `default` (shifts, turns, scales; mirrored where the data allows) or `none`.

    Raises:
        EvaluationError: a value makes no sense; names it.
    """

    epochs: int = 8
    batch: int = 32
    lr: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    augment: str = "default"

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch": (self.batch >= 2, "at least 2"),
            "lr": (0 < self.lr < math.inf, "above 0"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "augment": (self.augment in ("default", "none"), "default or none"),
        }
        for name, (fine, rule) in rules.items():
            if not fine:
                raise EvaluationError(f"training option {name} is {getattr(self, name)!r}; it must be {rule}")


@dataclass(frozen=True)
class Score:
    """How a network does on one part of the data.

    Attributes:
        accuracy: in [0, 1].
        recall: class -> share of its pictures that were recognised.
    """

    accuracy: float
    recall: dict[str, float]


def choose_device(name: str) -> torch.device:
    """The device `auto`, `cpu` or `cuda` names here. Raises EvaluationError if it is absent."""
    if name not in ("auto", "cpu", "cuda"):
        raise EvaluationError(f"device is {name!r}; it must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise EvaluationError("device is cuda, but this torch sees no CUDA device; use device=auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Trainer:
    """Trains one network. All randomness comes from (seed, epoch), so an epoch repeats whatever ran before it.

    Args:
        graph: the network; its input must be the data's shape and its output the number of classes.
        dataset: the pictures.
        train: which of them are trained on.
        recipe: how.
        seed: of weights, order and augmentation.
        device: where; on CUDA with float16 where `amp` says so.
        amp: mixed precision on CUDA; the CPU always computes in float32.
        workdir: holds the checkpoint.

    Raises:
        EvaluationError: graph and data do not fit.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        train: Part,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        amp: bool,
        workdir: Path,
    ) -> None:
        if graph.input.shape != dataset.input or graph.output.shape != (len(dataset.classes), 1, 1):
            need = (len(dataset.classes), 1, 1)
            raise EvaluationError(
                f"a network {graph.input.shape} -> {graph.output.shape} cannot learn {dataset.spec}, which is "
                f"{dataset.input} -> {need}; build the space for {need[0]} classes"
            )
        self.dataset, self.train, self.recipe, self.seed, self.device = dataset, train, recipe, seed, device
        self.amp = amp and device.type == "cuda"
        self.history: list[dict[str, float]] = []
        self._path = workdir / CHECKPOINT
        self._identity = _identity(graph, dataset, len(train), recipe, seed, self.amp)
        self.network = Network(graph, seed=_seed(seed, 0)).to(device)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=MOMENTUM, nesterov=True)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.amp)
        mean, std = (torch.tensor(v, device=device)[None, :, None, None] for v in (dataset.mean, dataset.std))
        self._mean, self._std = mean, std

    def run(self, report: Report, *, validate: bool = True) -> None:
        """Train to the last epoch, from the checkpoint if there is one; its epochs are reported again.

        Raises:
            EvaluationError: the loss is not finite, or the device's memory does not suffice.
            SearchError: the checkpoint cannot be written.
        """
        self._resume()
        for entry in self.history:
            self._tell(report, entry)
        try:
            for epoch in range(len(self.history), self.recipe.epochs):
                entry = {"epoch": epoch + 1, "loss": self._epoch(epoch)}
                if validate:
                    entry["val_accuracy"] = self.score(self.dataset.val).accuracy
                self.history.append(entry)
                self._save()
                self._tell(report, entry)
        except torch.OutOfMemoryError as e:
            raise EvaluationError(f"{self.device} ran out of memory; lower the batch ({self.recipe.batch})") from e

    def score(self, part: Part) -> Score:
        """Accuracy and per-class recall on some pictures."""
        self.network.eval()
        classes = len(self.dataset.classes)
        hits: NDArray[np.int64] = np.zeros(classes, np.int64)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.float16, enabled=self.amp):
            for start in range(0, len(part), 2 * self.recipe.batch):  # no gradients: twice as many fit
                rows = slice(start, start + 2 * self.recipe.batch)
                answers = self.network(self._normalise(self._pictures(part, rows))).argmax(1).cpu().numpy()
                hits += np.bincount(part.y[rows][answers == part.y[rows]], minlength=classes)
        recall = hits / np.bincount(part.y, minlength=classes)
        return Score(float(hits.sum() / len(part)), dict(zip(self.dataset.classes, recall.tolist(), strict=True)))

    def state_dict(self) -> dict[str, Tensor]:
        """The network's weights and statistics, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def _epoch(self, epoch: int) -> float:
        """One pass over the training pictures; the mean loss."""
        self.network.train()
        generator = torch.Generator().manual_seed(_seed(self.seed, epoch + 1))
        total = torch.zeros((), device=self.device)
        batches = list(self._batches(generator))
        for number, rows in enumerate(batches):
            lr = self._lr((epoch * len(batches) + number + 0.5) / (self.recipe.epochs * len(batches)))
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            x = self._pictures(self.train, rows)
            if self.recipe.augment != "none":
                x = augment(x, generator, flip=self.dataset.flip)
            y = torch.from_numpy(self.train.y[rows]).to(self.device)
            with torch.autocast(self.device.type, torch.float16, enabled=self.amp):
                logits = self.network(self._normalise(x))
            loss = functional.cross_entropy(logits.float(), y, label_smoothing=self.recipe.label_smoothing)
            self._optimizer.zero_grad(set_to_none=True)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            total += loss.detach() * len(rows)
        mean = float(total) / len(self.train)
        if not math.isfinite(mean):
            raise EvaluationError(f"the loss is {mean} in epoch {epoch + 1}; lower lr ({self.recipe.lr:g})")
        return mean

    def _batches(self, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
        """Shuffled rows in batches of nearly equal size: none so small that a norm could not be computed."""
        order = torch.randperm(len(self.train), generator=generator)
        for rows in torch.tensor_split(order, math.ceil(len(order) / self.recipe.batch)):
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
        state = {
            "identity": self._identity,
            "history": self.history,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        with self._disk():
            checkpoint.save(self._path, state)

    def _resume(self) -> None:
        """Take up the checkpoint, if there is one of this very training."""
        with self._disk():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            state = checkpoint.load(self._path)
        if state is None or state.get("identity") != self._identity:
            return
        self.history = state["history"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """A disk that fails is no fault of the network: it must stop the search, not fail its trials one by one."""
        try:
            yield
        except OSError as e:
            raise SearchError(f"checkpoint {self._path}: {e.strerror or e}; make room there and start again") from e


def _seed(seed: int, epoch: int) -> int:
    """For a torch generator; epoch 0 means the initial weights."""
    state = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def _identity(graph: Graph, dataset: Dataset, pictures: int, recipe: Recipe, seed: int, amp: bool) -> str:
    """Equal exactly for trainings that would go the same way."""
    facts = [graph.to_dict(), dataset.digest, pictures, asdict(recipe), seed, amp]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
