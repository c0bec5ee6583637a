"""Layer: the weights of one op, whatever file they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nas.errors import WeightsError

EPSILON = 1e-5
"""Of every batch norm: of ours, torchvision's and timm's MobileNetV2."""


class Norm(NamedTuple):
    """A batch norm's parameters and statistics, each (out,) float32."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor


class Layer(NamedTuple):
    """The weights of one op; a bias before a norm is part of the norm's mean.

    Attributes:
        weight: float32, (out, in / groups, kh, kw), or (out, in) of a linear layer.
        bias: (out,), or None.
        norm: the batch norm behind it, or None; then the bias is None.
    """

    weight: Tensor
    bias: Tensor | None = None
    norm: Norm | None = None

    def folded(self) -> Layer:
        """The same function without a norm: weight and bias, computed in float64."""
        out = self.weight.new_zeros(len(self.weight))
        if self.norm is None:
            return Layer(self.weight, out if self.bias is None else self.bias)
        gamma, beta, mean, var = (t.double() for t in self.norm)
        weight, bias = fuse_conv_bn_weights(self.weight.double(), None, mean, var, EPSILON, gamma, beta)
        return Layer(weight.detach().float(), bias.detach().float())

    def normed(self) -> Layer:
        """The same function in inference with a norm: one that does nothing but add the bias."""
        if self.norm is not None:
            return self
        out = self.weight.new_zeros(len(self.weight))
        beta = out if self.bias is None else self.bias
        # γ / sqrt(1 + ε) is 1.
        return Layer(
            self.weight, None, Norm(torch.full_like(out, (1 + EPSILON) ** 0.5), beta, out, torch.ones_like(out))
        )


def build_layer(path: str, parts: Mapping[str, Tensor]) -> Layer:
    """The layer at `path` from its tensors by name (`weight`, `bias`, `norm.weight`, `norm.running_mean`, …).

    Raises:
        WeightsError: one is missing, of another shape, no float or not finite; names it.
    """
    weight = _floats(f"{path}.weight", parts.get("weight"))
    if weight.ndim not in (2, 4):
        raise WeightsError(f"{path}.weight has {weight.ndim} dimensions; a convolution has 4, a linear layer 2")

    def per_channel(name: str) -> Tensor:
        value = _floats(f"{path}.{name}", parts.get(name))
        if value.shape != weight.shape[:1]:
            raise WeightsError(f"{path}.{name} is {tuple(value.shape)}, but {path}.weight is {tuple(weight.shape)}")
        return value

    bias = per_channel("bias") if "bias" in parts else None
    if not any(name.startswith("norm.") for name in parts):
        return Layer(weight, bias)
    norm = Norm(*(per_channel(f"norm.{name}") for name in Norm._fields))
    return Layer(weight, None, norm if bias is None else norm._replace(running_mean=norm.running_mean - bias))


def _floats(name: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise WeightsError(f"{name} is missing, though its op has other tensors; the checkpoint is not complete")
    if not value.is_floating_point():
        raise WeightsError(f"{name} holds {value.dtype}; weights are floats (a quantised checkpoint cannot be read)")
    value = value.detach().float()
    if not value.isfinite().all():
        raise WeightsError(f"{name} holds NaN or infinite values; take an earlier checkpoint")
    return value
