"""What a finished training leaves: weights, accuracies, curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas.fold import Folded, fold
from nas.training.trainer import Trainer


@dataclass(frozen=True)
class TrainedModel:
    """A network, trained to the end.

    Attributes:
        state_dict: of `Network(graph)`, on the CPU.
        folded: path -> inference weights.
        val_accuracy: on the validation pictures.
        test_accuracy: on the test pictures, which nothing was chosen by.
        recall: per class, on the test pictures.
        pictures: how many were trained on.
        history: per epoch.
        fit: what it had from initial weights, as JSON types; None if it had none.
        hits: (test pictures,) True where it was right.
    """

    state_dict: dict[str, Tensor]
    folded: dict[str, Folded]
    val_accuracy: float
    test_accuracy: float
    recall: dict[str, float]
    pictures: int
    history: list[dict[str, float]]
    fit: dict[str, Any] | None = None
    hits: NDArray[np.bool_] | None = None


def assess(trainer: Trainer) -> TrainedModel:
    """Test a finished training's network."""
    test = trainer.score(trainer.dataset.test)
    return TrainedModel(
        state_dict=trainer.state_dict(),
        folded=fold(trainer.network),
        val_accuracy=trainer.score(trainer.dataset.val).accuracy,
        test_accuracy=test.accuracy,
        recall=test.recall,
        pictures=len(trainer.dataset.train),
        history=trainer.history,
        fit=trainer.fit,
        hits=test.hits,
    )
