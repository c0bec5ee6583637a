"""Spaces made of a stem, stages of repeated blocks and a classifier: MobileNetV2's plan with lists of choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.blocks import FAMILIES
from nas.errors import InvalidSpace
from nas.graph import Graph, Shape, Tensor
from nas.space import Gene, Read, SearchSpace, Site

KNOBS = ("family", "expansion", "width", "repeats", "kernel", "se", "act")


@dataclass(frozen=True)
class Stem:
    """The first convolution."""

    width: int
    kernel: int = 3
    stride: int = 2
    act: str = "relu6"


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; every attribute lists its choices, and one choice makes no gene.

    Attributes:
        family: block families.
        expansion, kernel, se, act: knobs of the blocks.
        width: output channels.
        repeats: blocks; the first has the stride.
        stride: of the first block; choices among stages are tied by the space's total reduction.
    """

    width: tuple[int, ...]
    family: tuple[str, ...] = ("mbconv",)
    expansion: tuple[int, ...] = (6,)
    repeats: tuple[int, ...] = (1,)
    kernel: tuple[int, ...] = (3,)
    se: tuple[bool, ...] = (False,)
    act: tuple[str, ...] = ("relu6",)
    stride: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Head:
    """The last 1x1 convolution (absent if width is 0), global pooling and the classifier."""

    classes: int
    width: int = 1280
    act: str = "relu6"


@dataclass
class _Draft:
    genes: list[Gene] = field(default_factory=list)

    def read(self, name: str, choices: tuple[Any, ...]) -> Read | None:
        """A new gene and its read, or None where there is nothing to choose."""
        if len(choices) == 1:
            return None
        self.genes.append(Gene(name, choices))
        return Read(len(self.genes) - 1, choices)


def stride_patterns(name: str, stem: Stem, stages: Sequence[Stage], reduction: int | None) -> list[tuple[int, ...]]:
    """Every assignment of strides to stages whose product with the stem's is `reduction`.

    Raises:
        InvalidSpace: stages list strides but no reduction is given, or none of the products is the reduction.
    """
    combos = list(itertools.product(*(s.stride for s in stages)))
    if reduction is None:
        if len(combos) > 1:
            raise InvalidSpace(f"{name}: stages list several strides, so `reduction` (their product) must be given")
        return combos
    fitting = [c for c in combos if stem.stride * math.prod(c) == reduction]
    if not fitting:
        possible = sorted({stem.stride * math.prod(c) for c in combos})
        raise InvalidSpace(f"{name}: reduction {reduction} cannot be reached; the strides give {possible}")
    if len(fitting) > 256:
        raise InvalidSpace(
            f"{name}: {len(fitting)} stride patterns reach reduction {reduction}; at most 256 can be a gene"
        )
    return fitting


def staged_space(
    name: str,
    *,
    inputs: Sequence[Shape],
    stem: Stem,
    stages: Sequence[Stage],
    head: Head,
    reduction: int | None = None,
) -> SearchSpace:
    """A chain stem, stages, head.

    Genes, in order: `resolution` (several inputs), `strides` (several patterns), then per stage the knobs with more
    than one choice, in the order of `KNOBS`. Where strides are searched they are ONE gene whose choices are the
    patterns of the same total reduction: every encoding is then valid and every single-gene change keeps it so.

    Raises:
        InvalidSpace: a choice is impossible.
    """
    draft = _Draft()
    size = [f"{h}x{w}" if h != w else h for _, h, w in inputs]
    resolution = draft.read("resolution", tuple(size))
    patterns = stride_patterns(name, stem, stages, reduction)
    pattern = draft.read("strides", tuple("-".join(map(str, p)) for p in patterns))

    def build_stem(g: Graph, x: Tensor) -> Tensor:
        return g.conv(x, stem.width, kernel=stem.kernel, stride=stem.stride, act=stem.act, path="stem")

    sites = [Site("stem", (), build_stem)]
    for i, stage in enumerate(stages):
        sites.append(_stage_site(draft, name, i, stage, patterns, pattern))

    def build_head(g: Graph, x: Tensor) -> Tensor:
        if head.width:
            x = g.conv(x, head.width, act=head.act, path="last")
        return g.linear(g.global_pool(x, path="pool"), head.classes, path="classifier")

    sites.append(Site("head", (), build_head))
    return SearchSpace(name, draft.genes, sites, inputs, resolution.gene if resolution else None)


def _stage_site(
    draft: _Draft, name: str, index: int, stage: Stage, patterns: list[tuple[int, ...]], pattern: Read | None
) -> Site:
    label = f"s{index}"
    for family in stage.family:
        if family not in FAMILIES:
            raise InvalidSpace(f"{name}: stages[{index}].family {family!r} is unknown; known: {', '.join(FAMILIES)}")
    for knob in ("expansion", "se"):
        if len(getattr(stage, knob)) > 1 and not any(knob in FAMILIES[f].knobs for f in stage.family):
            raise InvalidSpace(
                f"{name}: stages[{index}].{knob} has choices, but {'/'.join(stage.family)} has no {knob}"
            )
    reads = {knob: draft.read(f"{label}.{knob}", getattr(stage, knob)) for knob in KNOBS}
    fixed = {knob: getattr(stage, knob)[0] for knob in KNOBS}
    searched = [knob for knob in KNOBS if reads[knob]]
    strides = tuple(p[index] for p in patterns)
    varies = pattern is not None and len(set(strides)) > 1

    def build(g: Graph, x: Tensor, *values: Any) -> Tensor:
        at = {**fixed, **dict(zip(searched, values, strict=False))}
        stride = values[-1] if varies else strides[0]
        family = FAMILIES[at["family"]]
        knobs = {k: at[k] for k in family.knobs}
        for b in range(at["repeats"]):
            x = family.build(g, x, at["width"], stride=stride if b == 0 else 1, path=f"{label}.b{b}", **knobs)
        return x

    site_reads = [r for k in searched if (r := reads[k])]
    if varies and pattern is not None:
        site_reads.append(Read(pattern.gene, strides))
    return Site(label, tuple(site_reads), build)
