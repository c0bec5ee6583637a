"""Norms folded into the weights before them. One fold feeds every export and every engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nas.network import Network, Weighted


class Folded(NamedTuple):
    """What an engine needs of a weighted op.

    Attributes:
        weight: float32, (out, in / groups, kh, kw), or (out, in) of a linear layer.
        bias: float32, (out,).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def fold(network: Network) -> dict[str, Folded]:
    """Path -> inference weights of every weighted op, in execution order.

    With y = γ (W x − μ) / sqrt(σ² + ε) + β the norm becomes W' = W γ / sqrt(σ² + ε) and b' = β − μ γ / sqrt(σ² + ε),
    computed in float64.
    """
    return {path: _fold(module) for path, module in network.weighted().items()}


def _fold(module: Weighted) -> Folded:
    weight = _float64(module.weight)
    bias = np.zeros(len(weight)) if module.bias is None else _float64(module.bias)
    norm = module.norm
    if norm is not None:
        assert norm.running_mean is not None  # BatchNorm2d tracks both unless told not to
        assert norm.running_var is not None
        factor = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
        weight = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
        bias = _float64(norm.bias) + (bias - _float64(norm.running_mean)) * factor
    return Folded(np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32))


def _float64(tensor: torch.Tensor) -> NDArray[np.float64]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float64)
