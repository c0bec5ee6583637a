"""Recipe: how a network is trained, as plain values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from nas.errors import EvaluationError
from nas.training.augment import AUGMENTATIONS

_KINDS = {int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum, a linear warm-up, then a cosine to zero (arXiv 1608.03983).

    Attributes:
        epochs: passes over the training pictures: a trial's fidelity.
        batch: pictures a step, of all processes together.
        lr: the highest learning rate, reached after the warm-up.
        weight_decay: of weights; norms and biases have none.
        label_smoothing: arXiv 1512.00567.
        augment: one of `nas.training.augment.AUGMENTATIONS`.
        ema: weights and statistics are averaged with this decay, step by step, and the average is what is judged and
            kept; less at the beginning, where (1 + step) / (10 + step) is smaller. 0: no average.
        distil: with a teacher, its share of the loss; the labels have the rest (arXiv 1503.02531).
        temperature: of the teacher's answers.

    Raises:
        EvaluationError: a value makes no sense; names it.
    """

    epochs: int = 8
    batch: int = 32
    lr: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    augment: str = "default"
    ema: float = 0.0
    distil: float = 0.7
    temperature: float = 3.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
            if not fits:
                raise EvaluationError(f"training option {field.name} is {value!r}; it must be {_KINDS[kind]}")
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch": (self.batch >= 2, "at least 2"),
            "lr": (0 < self.lr < math.inf, "above 0"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "augment": (self.augment in AUGMENTATIONS, f"one of {', '.join(AUGMENTATIONS)}"),
            "ema": (0 <= self.ema < 1, "in [0, 1)"),
            "distil": (0 <= self.distil <= 1, "in [0, 1]"),
            "temperature": (0 < self.temperature < math.inf, "above 0"),
        }
        for name, (fine, rule) in rules.items():
            if not fine:
                raise EvaluationError(f"training option {name} is {getattr(self, name)!r}; it must be {rule}")

    def identity(self) -> dict[str, Any]:
        """What tells two recipes apart. Later fields are left out at their default, so that old checkpoints fit."""
        later = {"ema", "distil", "temperature"}
        return {
            f.name: value
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) != f.default or f.name not in later
        }


FINAL = Recipe(epochs=60, augment="rand", ema=0.998)
"""Of a winner's training, where nothing else is asked."""
