"""Published families as spaces: MobileNetV2 and ShuffleNetV2 by width multiplier (and resolution).

What a search has to beat: whoever has a budget and no search takes the member of such a family that fits. A family is
one plan; its genes are `width`, which every stage reads, `resolution` where there are several, and, for small pictures,
`downsampling`. The paths are those of `staged_space`, so weights and teachers made for one match the other.

The plans halve a picture five times, which leaves one pixel of 32. So the reduction follows the picture's shorter side:
32 from 128 pixels on, 16 from 64 on, 8 below. Which strides remain is the gene `downsampling`: `late`, the earliest
strides become 1, as is usual for CIFAR (ShuffleNetV2's max pooling goes first), or `early`, the last ones do, which
costs a fraction, so that a wider network fits a budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nas.blocks.mbconv import mbconv
from nas.blocks.shuffle_v2 import shuffle_v2
from nas.errors import InvalidSpace
from nas.graph import Graph, Shape, Tensor
from nas.space import Gene, Read, SearchSpace, Site

DOWNSAMPLING = ("late", "early")
_FULL = 32
_MOBILENET_V2 = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
_MOBILENET_V2_WIDTHS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # published: from 0.35 on
_SHUFFLENET_V2_REPEATS = (4, 8, 4)
_SHUFFLENET_V2_WIDTHS = {0.25: 24, 0.35: 34, 0.5: 48, 1.0: 116, 1.5: 176, 2.0: 244}  # channels of the first stage


@dataclass(frozen=True)
class _Part:
    """A site of a family: ``build(g, x, channels, stride)``, with its stride at the full reduction."""

    name: str
    stride: int
    build: Callable[[Graph, Tensor, int, int], Tensor]


@dataclass(frozen=True)
class _Family:
    """A plan: its parts, and the channels of each of them at a width multiplier."""

    name: str
    parts: tuple[_Part, ...]
    channels: Callable[[float], tuple[int, ...]]


def build_mobilenet_v2(
    input_shape: Shape, classes: int, width: float = 1.0, reduction: int = 32, downsampling: str = "late"
) -> Graph:
    """MobileNetV2 (arXiv 1801.04381, table 2); 1.0 at 224 pixels has 3 504 872 parameters and 300 774 272 FLOPs.

    Args:
        input_shape: (c, h, w) of one picture.
        classes: outputs of the classifier.
        width: multiplier of all channels, rounded to multiples of 8; the last convolution never has less than 1280.
        reduction: total stride, a power of two up to 32.
        downsampling: where it happens, `late` or `early`, if it is below 32.

    Raises:
        InvalidSpace: no such reduction.
    """
    return _graph(_mobilenet_v2(classes), input_shape, width, _strides(_mobilenet_v2(classes), reduction, downsampling))


def build_shufflenet_v2(
    input_shape: Shape, classes: int, width: float = 1.0, reduction: int = 32, downsampling: str = "late"
) -> Graph:
    """ShuffleNetV2 (arXiv 1807.11164, table 5); 1.0 at 224 pixels has 2 278 604 parameters and 146 M FLOPs.

    Args:
        input_shape: (c, h, w) of one picture.
        classes: outputs of the classifier.
        width: 0.5, 1.0, 1.5 or 2.0 as published; 0.25 and 0.35 have 0.5's channels in proportion.
        reduction: total stride, a power of two up to 32.
        downsampling: where it happens, `late` or `early`, if it is below 32.

    Raises:
        InvalidSpace: no such width or reduction.
    """
    return _graph(
        _shufflenet_v2(classes), input_shape, width, _strides(_shufflenet_v2(classes), reduction, downsampling)
    )


def mobilenet_v2(inputs: Sequence[Shape], classes: int) -> SearchSpace:
    """MobileNetV2 by width, 0.1 to 1.4, and resolution."""
    return _space(_mobilenet_v2(classes), inputs, _MOBILENET_V2_WIDTHS)


def shufflenet_v2(inputs: Sequence[Shape], classes: int) -> SearchSpace:
    """ShuffleNetV2 by width, 0.25 to 2.0, and resolution."""
    return _space(_shufflenet_v2(classes), inputs, tuple(_SHUFFLENET_V2_WIDTHS))


def default_reduction(input_shape: Shape) -> int:
    """The total stride for pictures (c, h, w)."""
    side = min(input_shape[1:])
    return 32 if side >= 128 else 16 if side >= 64 else 8


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least one of it and never below 90 %, as in the code of the paper."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


# The plans --------------------------------------------------------------------------------------------------------


def _mobilenet_v2(classes: int) -> _Family:
    def stem(g: Graph, x: Tensor, channels: int, stride: int) -> Tensor:
        return g.conv(x, channels, kernel=3, stride=stride, act="relu6", path="stem")

    def stage(label: str, expansion: int, repeats: int, g: Graph, x: Tensor, channels: int, stride: int) -> Tensor:
        for b in range(repeats):
            x = mbconv(g, x, channels, stride=1 if b else stride, expansion=expansion, path=f"{label}.b{b}")
        return x

    def channels(width: float) -> tuple[int, ...]:
        stages = [make_divisible(c * width) for _, c, _ in _MOBILENET_V2]
        return (make_divisible(32 * width), *stages, make_divisible(1280 * max(1.0, width)))

    parts = [_Part("stem", 2, stem)]
    for i, ((expansion, _, repeats), stride) in enumerate(zip(_MOBILENET_V2, (1, 2, 2, 2, 1, 2, 1), strict=True)):
        parts.append(_Part(f"s{i}", stride, partial(stage, f"s{i}", expansion, repeats)))
    parts.append(_Part("head", 1, partial(_head, classes, "relu6")))
    return _Family("mobilenetv2", tuple(parts), channels)


def _shufflenet_v2(classes: int) -> _Family:
    def stem(g: Graph, x: Tensor, channels: int, stride: int) -> Tensor:
        x = g.conv(x, channels, kernel=3, stride=min(stride, 2), act="relu", path="stem")
        return g.max_pool(x, kernel=3, stride=2, path="stem_pool") if stride == 4 else x

    def stage(label: str, repeats: int, g: Graph, x: Tensor, channels: int, stride: int) -> Tensor:
        for b in range(repeats):
            x = shuffle_v2(g, x, channels, stride=1 if b else stride, path=f"{label}.b{b}")
        return x

    def channels(width: float) -> tuple[int, ...]:
        if width not in _SHUFFLENET_V2_WIDTHS:
            known = ", ".join(map(str, _SHUFFLENET_V2_WIDTHS))
            raise InvalidSpace(f"shufflenetv2: there is no width {width:g}; there are {known}")
        first = _SHUFFLENET_V2_WIDTHS[width]
        return 24, first, 2 * first, 4 * first, 2048 if width == 2 else 1024

    parts = [_Part("stem", 4, stem)]
    parts += [_Part(f"s{i}", 2, partial(stage, f"s{i}", n)) for i, n in enumerate(_SHUFFLENET_V2_REPEATS)]
    parts.append(_Part("head", 1, partial(_head, classes, "relu")))
    return _Family("shufflenetv2", tuple(parts), channels)


def _head(classes: int, act: str, g: Graph, x: Tensor, channels: int, stride: int) -> Tensor:
    x = g.conv(x, channels, stride=stride, act=act, path="last")
    return g.linear(g.global_pool(x, path="pool"), classes, path="classifier")


# Plan -> networks -------------------------------------------------------------------------------------------------


def _graph(family: _Family, input_shape: Shape, width: float, strides: Sequence[int]) -> Graph:
    g = Graph(input_shape)
    x = g.input
    for part, channels, stride in zip(family.parts, family.channels(width), strides, strict=True):
        x = part.build(g, x, channels, stride)
    return g


def _space(family: _Family, inputs: Sequence[Shape], widths: tuple[float, ...]) -> SearchSpace:
    """One gene for all widths; strides are read off the genes that decide them."""
    reductions = [default_reduction(shape) for shape in inputs]
    ways = DOWNSAMPLING if min(reductions) < _FULL else DOWNSAMPLING[:1]
    genes = [Gene("width", widths)]
    if len(inputs) > 1:
        genes.insert(0, Gene("resolution", tuple(f"{h}x{w}" if h != w else h for _, h, w in inputs)))
    width = len(genes) - 1
    if len(ways) > 1:
        genes.append(Gene("downsampling", ways))
    channels = list(zip(*(family.channels(w) for w in widths), strict=True))
    strides = [[_strides(family, reduction, way) for way in ways] for reduction in reductions]
    sites = []
    for i, part in enumerate(family.parts):
        here = tuple(tuple(of_way[i] for of_way in of_input) for of_input in strides)
        reads = [Read(width, channels[i])]
        if len(set(here)) > 1:
            reads.append(Read(0, here))
        way = any(len(set(of_input)) > 1 for of_input in here)
        if way:
            reads.append(Read(width + 1, tuple(range(len(ways)))))

        def build(
            g: Graph, x: Tensor, *values: Any, part: _Part = part, first: tuple[int, ...] = here[0], way: bool = way
        ) -> Tensor:
            of_input = next((v for v in values[1:] if isinstance(v, tuple)), first)
            return part.build(g, x, values[0], of_input[values[-1] if way else 0])

        sites.append(Site(part.name, tuple(reads), build))
    return SearchSpace(family.name, genes, sites, inputs, 0 if len(inputs) > 1 else None)


def _strides(family: _Family, reduction: int, downsampling: str) -> list[int]:
    """Of each part; the earliest or the last are halved until their product is the reduction."""
    strides = [part.stride for part in family.parts]
    if reduction not in (1, 2, 4, 8, 16, _FULL):
        raise InvalidSpace(f"{family.name}: a reduction is a power of two from 1 to 32, not {reduction}")
    if downsampling not in DOWNSAMPLING:
        raise InvalidSpace(f"{family.name}: downsampling is {' or '.join(DOWNSAMPLING)}, not {downsampling!r}")
    order = range(len(strides)) if downsampling == "late" else reversed(range(len(strides)))
    for i in order:
        while strides[i] > 1 and math.prod(strides) > reduction:
            strides[i] //= 2
    return strides
