"""Distillation: a student learns from a trained network's answers beside the labels (arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from nas.network import Network


@dataclass(frozen=True)
class Scaling:
    """How a network wants its pictures: per channel, (x - mean) / std of x in [0, 1]."""

    mean: Sequence[float]
    std: Sequence[float]


class Teacher:
    """A trained network that answers for a student.

    It sees the student's own pictures, changed as they are, resized if its input has another size.

    Args:
        load: gives the network, trained on the same classes; its input has the student's channels. Called when the
            first answer is wanted.
        digest: of its weights; part of what identifies a training.
        device: where the student is trained.
        scaling: (the student's, its own), where they differ.
    """

    def __init__(
        self,
        load: Callable[[], Network],
        digest: str,
        device: torch.device,
        scaling: tuple[Scaling, Scaling] | None = None,
    ) -> None:
        self.digest = digest
        self._load, self._device, self._scaling = load, device, scaling

    @cached_property
    def _network(self) -> Network:
        return self._load().to(self._device).eval()

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """(n, c, h, w) pictures, normalised for the student -> (n, classes)."""
        size = self._network.graph.input.shape[1:]
        if self._scaling is not None:
            (mean, std), (own_mean, own_std) = ((self._column(s.mean), self._column(s.std)) for s in self._scaling)
            x = (x * std + mean - own_mean) / own_std
        if x.shape[2:] != size:
            x = functional.interpolate(x, size, mode="bilinear", antialias=True)
        answers: Tensor = self._network(x)
        return answers.float()

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self._device)[None, :, None, None]


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 · KL(teacher / T || student / T), a mean over the batch; T^2 keeps its gradients as large as the labels'."""
    soft = functional.log_softmax(student / temperature, 1)
    aim = functional.log_softmax(teacher / temperature, 1)
    return functional.kl_div(soft, aim, reduction="batchmean", log_target=True) * temperature**2
