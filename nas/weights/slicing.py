"""Weights of one network put into another where paths agree, as far as both reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas.network import Network, Weighted
from nas.op import Op
from nas.weights.layers import Layer

_Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Fit:
    """What a network took over.

    Attributes:
        whole: paths of the ops whose weights were copied as they are.
        sliced: of those that took a part, or were filled in part.
        fresh: of those that nothing matched; they keep their initial weights.
        share: of the network's parameters that come from the source.
        unsettled: of those taken, the ops with a norm whose source had it folded: `nas.weights.settle`
            makes them fit for training.
    """

    whole: tuple[str, ...]
    sliced: tuple[str, ...]
    fresh: tuple[str, ...]
    share: float
    unsettled: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = len(self.whole) + len(self.sliced) + len(self.fresh)
        parts = [f"{len(self.whole)} of {total} ops copied whole", f"{len(self.sliced)} sliced"]
        if self.fresh:
            shown = ", ".join(self.fresh[:3]) + (", …" if len(self.fresh) > 3 else "")
            parts.append(f"{len(self.fresh)} fresh ({shown})")
        return f"{', '.join(parts)}: {100 * self.share:.1f} % of the parameters"

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"whole": list(self.whole), "sliced": list(self.sliced), "fresh": list(self.fresh), "share": self.share}


def fit(network: Network, source: Mapping[str, Layer]) -> Fit:
    """Copy, for every op of the network whose path the source has, the part that both have.

    That is the first output and the first input channels: a prefix everywhere, so that what one op writes is what the
    next was trained to read, also along residual chains (slimmable networks are cut so: arXiv 1812.08928).
    Kernels are centred: a larger one has zeros around, a smaller one is the middle. What the source does not reach
    keeps its initial values. A classifier is taken over only for as many classes. Where one side has a norm and the
    other's is folded, the values are converted, so that the network computes the same in inference.

    An op of another kind has no match, and so has a grouped convolution of another shape.

    Args:
        network: changed in place.
        source: path -> weights.
    """
    whole: list[str] = []
    sliced: list[str] = []
    fresh: list[str] = []
    unsettled: list[str] = []
    taken = 0
    for path, module in network.weighted().items():
        layer = source.get(path)
        cut = None if layer is None else _overlap(module.op, tuple(module.weight.shape), tuple(layer.weight.shape))
        if layer is None or cut is None:
            fresh.append(path)
            continue
        taken += _copy(layer, module, *cut)
        (whole if layer.weight.shape == module.weight.shape else sliced).append(path)
        if module.norm is not None and layer.norm is None:
            unsettled.append(path)
    share = taken / (network.graph.params or 1)
    return Fit(tuple(whole), tuple(sliced), tuple(fresh), share, tuple(unsettled))


def _overlap(op: Op, own: tuple[int, ...], other: tuple[int, ...]) -> tuple[_Slices, _Slices] | None:
    """Which part of a weight of shape `own` takes which part of one of shape `other`; None if they do not match."""
    if len(own) != len(other):
        return None
    one_pixel = op.inputs[0][1:] == (1, 1)
    sliceable = {
        "linear": own[0] == other[0] and one_pixel,
        "depthwise": other[1] == 1,
        # One input channel a filter is what a depthwise convolution has.
        "conv": op.groups == 1 and (other[1] > 1 or own[1] == 1),
    }
    if own != other and not sliceable[op.kind]:
        return None
    channels = [(slice(0, min(a, b)),) * 2 for a, b in zip(own[:2], other[:2], strict=True)]
    kernel = [_centred(a, b) for a, b in zip(own[2:], other[2:], strict=True)]
    if None in kernel:
        return None
    into, out_of = zip(*channels, *(k for k in kernel if k), strict=True)
    return into, out_of


def _centred(own: int, other: int) -> tuple[slice, slice] | None:
    margin, odd = divmod(abs(own - other), 2)
    if odd:
        return None
    middle, everything = slice(margin, margin + min(own, other)), slice(None)
    return (middle, everything) if own > other else (everything, middle)


@torch.no_grad()
def _copy(layer: Layer, module: Weighted, into: _Slices, out_of: _Slices) -> int:
    """The number of parameters of the module that were set from the layer."""
    layer = layer.folded() if module.norm is None else layer.normed()
    part = layer.weight[out_of]
    module.weight[into[:2]] = 0  # the rim of a kernel larger than the source's
    module.weight[into] = part.to(module.weight)
    out = len(part)
    pairs: list[tuple[Tensor | None, Tensor | None]] = [(module.bias, layer.bias)]
    if module.norm is not None and layer.norm is not None:
        pairs += [(getattr(module.norm, name), value) for name, value in layer.norm._asdict().items()]
    for target, value in pairs:
        if target is not None and value is not None:
            target[:out] = value[:out].to(target)
    return math.prod(part.shape) + out * (2 * module.op.norm + module.op.bias)
