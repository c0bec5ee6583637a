from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.graph import Graph, Op
from nas.space import Encoding, SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space
from nas.surrogate.features import Described, Features

MACRO = build_space("nas-bench-macro")
WEIGHTED = ("conv", "depthwise", "linear")
Floats = NDArray[np.float64]


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """One to three stages; families, strides, the resolution and all knobs may be searched."""

    def some(*values: Any, most: int = 2) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)))

    strided = draw(st.booleans())
    stages = [
        Stage(
            width=some(8, 16, 24, most=3),
            family=some("mbconv", "shuffle_v2"),
            expansion=some(1, 2, 3),
            repeats=some(1, 2, 3),
            kernel=some(3, 5),
            se=some(False, True),
            stride=(1, 2) if strided else (1,),
        )
        for _ in range(draw(st.integers(2 if strided else 1, 3)))
    ]
    stages = [s if "mbconv" in s.family else Stage(width=s.width, family=s.family, stride=s.stride) for s in stages]
    stages[0] = Stage(width=(8, 16), stride=stages[0].stride)  # at least one gene
    reduction = draw(st.sampled_from((4, 2 ** len(stages)))) if strided else None
    inputs = [(3, side, side) for side in some(8, 16, 24)]
    return staged_space("drawn", inputs=inputs, stem=Stem(8), stages=stages, head=Head(4, width=0), reduction=reduction)


def kinds(space: SearchSpace) -> list[tuple[str, tuple[int, int]]]:
    return sorted({(op.kind, op.kernel) for op in space.ops()})


def of_graph(space: SearchSpace, row: Encoding) -> tuple[list[float], list[float]]:
    """What the built network says, unscaled: of the whole, and of every site with more than one way to be built."""
    g = Graph(space.inputs[int(row[space.input_gene])] if space.input_gene is not None else space.inputs[0])
    x, sites = g.input, list[float]()
    for s, site in enumerate(space.sites):
        before = len(g.nodes)
        x = space.build_site(site, g, x, [r.values[int(row[r.gene])] for r in site.reads])
        ops = [n.op for n in g.nodes[before:]]
        flops, params = sum(op.flops for op in ops), sum(op.params for op in ops)
        width = 1 if s + 1 == len(space.sites) else x.shape[0]
        if space.compiled.sites[s].rows > 1:
            sites += [math.log1p(flops), math.log1p(params), depth(ops), math.log(width)]
    ops = [n.op for n in g.nodes]
    assert (sum(op.flops for op in ops), sum(op.params for op in ops)) == (g.flops, g.params)
    field = sum((op.kernel[0] - 1) / op.inputs[0][1] for op in ops)
    count = Counter((op.kind, op.kernel) for op in ops)
    return [math.log(g.flops), math.log(g.params), depth(ops), field, *(count[k] for k in kinds(space))], sites


def depth(ops: list[Op]) -> float:
    return sum(op.kind in WEIGHTED for op in ops)


def check_scaled(found: Floats, raw: Floats) -> None:
    """Each column of `found` is the column of `raw` moved and divided by something positive, or 0 if that is fixed."""
    assert found.shape == raw.shape
    for ours, truth in zip(found.T, raw.T, strict=True):
        low, high = int(truth.argmin()), int(truth.argmax())
        span = truth[high] - truth[low]
        if span > 1e-9 * (1 + np.abs(truth).max()):
            assert ours[high] > ours[low]
            scaled = (ours - ours[low]) / (ours[high] - ours[low])
            np.testing.assert_allclose(scaled, (truth - truth[low]) / span, atol=1e-6)
        else:
            assert np.ptp(ours) < 1e-6


@settings(deadline=None, max_examples=25)
@given(spaces() | st.just(MACRO), st.integers(0, 2**32))
def test_features_are_those_of_the_built_network(space: SearchSpace, seed: int) -> None:
    x = space.canonical(space.sample(np.random.default_rng(seed), 12))
    found = Features(space)(x)
    truth = [of_graph(space, row) for row in x]
    check_scaled(found.whole[:, :-1], np.array([whole for whole, _ in truth], dtype=float))
    check_scaled(found.sites, np.array([sites for _, sites in truth], dtype=float).reshape(len(x), -1))
    assert not found.whole[:, -1].any()


@settings(deadline=None, max_examples=15)
@given(spaces())
def test_over_uniform_networks_an_inner_product_is_of_order_one(space: SearchSpace) -> None:
    x = space.canonical(space.sample(np.random.default_rng(7), 4000))
    found = Features(space)(x)
    for part in (found.whole, found.sites):
        spread = part.std(axis=0)
        varying = int((spread > 0).sum())
        assert np.abs(part.mean(axis=0)).max(initial=0) < 0.1
        scaled = (part - part.mean(axis=0))[:, spread > 0] * np.sqrt(varying)
        # A spread's standard error from the fourth moment: of what few networks have, the smaller of the two samples
        # (this one, and the 2048 that set the scale) tells it less well than within a tenth.
        error = np.sqrt(np.maximum((scaled**4).mean(axis=0) - 1, 0) / (4 * 2048))
        assert (np.abs(scaled.std(axis=0) - 1) < np.maximum(0.1, 5 * error)).all()
        if varying:
            assert (part * part).sum(axis=1).mean() == pytest.approx(1, abs=0.1)


def test_genes_in_common_are_the_inner_product_of_genes_without_an_order() -> None:
    x = MACRO.sample(np.random.default_rng(0), 40)
    genes = Features(MACRO)(x).genes
    np.testing.assert_allclose(genes @ genes.T, (x[:, None] == x[None]).mean(axis=2), atol=1e-6)


def test_near_choices_of_an_ordered_gene_have_something_in_common(small: SearchSpace) -> None:
    gene = next(i for i, g in enumerate(small.genes) if g.name == "s2.width")  # four choices
    x = np.repeat(small.sample(np.random.default_rng(0)), 4, axis=0)
    x[:, gene] = range(4)
    genes = Features(small)(x).genes
    alike = len(small.genes) * (genes @ genes.T - 1) + 1  # only this gene differs
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-6)
    assert 0.5 > alike[0, 1] > alike[0, 2] > alike[0, 3] > 0
    np.testing.assert_allclose(alike[0, 1:3], alike[1, 2:4], atol=1e-6)


def test_a_batch_is_described_as_its_rows_are(small: SearchSpace) -> None:
    features, x = Features(small), small.sample(np.random.default_rng(0), 9)
    together = features(x)
    alone = Described.join([features(row[None]) for row in x])
    assert len(together) == len(alone) == 9
    for a, b, c in zip(parts(together), parts(alone), parts(together[np.array([4, 2])]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        assert c.tolist() == a[[4, 2]].tolist()
    assert len(features(x[:0])) == 0


def test_trials_of_an_earlier_search_differ_by_a_level_only(macro: SearchSpace) -> None:
    described = Features(macro)(macro.sample(np.random.default_rng(0), 3))
    shifted = described.shifted(np.array([True, False, True]))
    assert shifted.whole[:, -1].tolist() == [1, 0, 1]
    assert shifted.whole[:, :-1].tolist() == described.whole[:, :-1].tolist()
    assert shifted.sites is described.sites
    assert shifted.genes is described.genes


def parts(x: Described) -> tuple[Floats, Floats, Floats]:
    return x.whole, x.sites, x.genes
