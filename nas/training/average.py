"""Exponential moving average of a network's weights and statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from nas.network import Network


class Average:
    """A network whose weights and statistics follow another's.

    (`torch.optim.swa_utils.AveragedModel` has a fixed decay, with which a short training would remember how it began.)

    Args:
        network: what is followed.
        decay: per step, once (1 + steps) / (10 + steps) is larger.

    Attributes:
        network: the average.
        steps: updates so far.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """One step towards the network as it is now."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        pairs = list(zip(_values(self.network), _values(network), strict=True))
        own, other = ([pair[i] for pair in pairs if pair[0].is_floating_point()] for i in (0, 1))
        torch._foreach_lerp_(own, other, 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _values(network: Network) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
