"""The spaces that ship: light-nas, mobilenetv2-small, nas-bench-macro."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nas.blocks.mbconv import mbconv
from nas.graph import Graph, Shape, Tensor
from nas.space import Gene, Read, SearchSpace, Site
from nas.spaces.staged import Head, Stage, Stem, staged_space

_EXPANSION = (1, 2, 3, 4, 6)
_LIGHT_WIDTHS = (
    (3, 4, 8, 12, 16, 24, 32, 48),
    (8, 12, 16, 24, 32, 48, 64, 80),
    (16, 24, 32, 48, 64, 80, 96, 128),
    (24, 32, 48, 64, 80, 96, 128, 144, 160, 192),
    (32, 48, 64, 80, 96, 128, 144, 160, 192, 224),
    (64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512),
)
_SMALL_WIDTHS = ((8, 12, 16, 24), (16, 24, 32, 40), (24, 32, 48, 64), (48, 64, 96, 128))


def light_nas(inputs: Sequence[Shape], classes: int) -> SearchSpace:
    """PaddleSlim's MobileNetV2 space: head width, then 6 stages x (expansion, width, repeats, kernel); 2.007e17."""
    head = Stage(width=(3, 4, 8, 12, 16, 24, 32), expansion=(1,))
    stages = [
        Stage(width=w, expansion=_EXPANSION, repeats=(1, 2, 3, 4, 5, 6), kernel=(3, 5), stride=(s,))
        for w, s in zip(_LIGHT_WIDTHS, (2, 2, 2, 1, 2, 1), strict=True)
    ]
    return staged_space(
        "light-nas", inputs=inputs, stem=Stem(32), stages=[head, *stages], head=Head(classes, width=1280)
    )


def mobilenetv2_small(inputs: Sequence[Shape], classes: int) -> SearchSpace:
    """A 32-px relative of light-nas: the stem halves the picture, then strides 1, 2, 1, 2; 17 genes."""
    head = Stage(width=(8, 12, 16, 24), expansion=(1,))
    stages = [
        Stage(width=w, expansion=_EXPANSION, repeats=(1, 2, 3), kernel=(3, 5), stride=(s,))
        for w, s in zip(_SMALL_WIDTHS, (1, 2, 1, 2), strict=True)
    ]
    return staged_space(
        "mobilenetv2-small", inputs=inputs, stem=Stem(16), stages=[head, *stages], head=Head(classes, width=256)
    )


def nas_bench_macro(inputs: Sequence[Shape], classes: int) -> SearchSpace:
    """The 3^8 space of NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922).

    Layers in stages of 2 + 3 + 3; a gene is 0 identity (first of a stage: 1x1 stride-2 convolution), 1 MBConv kernel 3
    expansion 3, 2 MBConv kernel 5 expansion 6; ReLU. A site is a stage, so that networks whose identities commute
    are seen to be equal.
    """
    choices = ("identity", "k3e3", "k5e6")

    def build_stem(g: Graph, x: Tensor) -> Tensor:
        return g.conv(x, 32, kernel=3, act="relu", path="stem")

    def build_stage(stage: int, g: Graph, x: Tensor, *layers: str) -> Tensor:
        width = 64 << stage
        made = 0
        for first, layer in zip((True, False, False), layers, strict=False):
            path, stride = f"s{stage}.b{made}", 2 if first else 1
            if layer != "identity":
                kernel, expansion = (3, 3) if layer == "k3e3" else (5, 6)
                x = mbconv(g, x, width, stride=stride, kernel=kernel, expansion=expansion, act="relu", path=path)
            elif first:
                x = g.conv(x, width, stride=2, path=f"{path}.identity")
            made += first or layer != "identity"
        return x

    def build_head(g: Graph, x: Tensor) -> Tensor:
        x = g.conv(x, 1280, act="relu", path="last")
        return g.linear(g.global_pool(x, path="pool"), classes, path="classifier")

    genes = [Gene(f"s{s}.l{i}", choices) for s, n in enumerate((2, 3, 3)) for i in range(n)]
    sites = [Site("stem", (), build_stem)]
    for s, members in enumerate(((0, 1), (2, 3, 4), (5, 6, 7))):
        sites.append(Site(f"s{s}", tuple(Read(i, choices) for i in members), partial(build_stage, s)))
    sites.append(Site("head", (), build_head))
    return SearchSpace("nas-bench-macro", genes, sites, inputs)
