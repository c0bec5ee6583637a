from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.cost import CostModel, costs, flops_model, params_model
from nas.errors import InvalidEncoding
from nas.graph import Graph, Tensor
from nas.rows import RowPlan
from nas.space import Build, Encodings, Gene, Read, SearchSpace, Site
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space

Ints = NDArray[np.intp]
KNOBS = {"width": (4, 8, 12), "stride": (1, 2), "kernel": (1, 3), "layers": (0, 1, 2)}


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Chains whose genes may be shared by sites, merge choices, change the shape, or choose the input."""
    sizes = draw(st.sampled_from([(8,), (8, 16), (8, 12, 16)]))
    inputs = [(3, size, size) for size in sizes]
    genes = [Gene("input", sizes)] if len(inputs) > 1 else []
    sites: list[Site] = []
    for s in range(draw(st.integers(1, 5))):
        reads, knobs = [], draw(st.lists(st.sampled_from(sorted(KNOBS)), unique=True, max_size=3))
        for knob in knobs:
            if genes and draw(st.integers(0, 3)) == 0:
                gene = draw(st.integers(0, len(genes) - 1))
            else:
                gene = len(genes)
                genes.append(Gene(f"g{gene}", tuple(range(draw(st.integers(2, 4))))))
            size = len(genes[gene].choices)
            reads.append(Read(gene, tuple(draw(st.lists(st.sampled_from(KNOBS[knob]), min_size=size, max_size=size)))))
        sites.append(Site(f"s{s}", tuple(reads), builder(s, knobs)))
    used = {r.gene for site in sites for r in site.reads}
    if len(inputs) == 1 and not used:
        genes.append(Gene("last", (1, 2)))
        sites.append(Site("last", (Read(0, (4, 8)),), builder(9, ["width"])))
    return SearchSpace("random", genes, sites, inputs, 0 if len(inputs) > 1 else None)


def builder(s: int, knobs: list[str]) -> Build:
    def build(g: Graph, x: Tensor, *values: int) -> Tensor:
        at = {"width": x.shape[0], "stride": 1, "kernel": 1, "layers": 1} | dict(zip(knobs, values, strict=True))
        for b in range(at["layers"]):
            stride = at["stride"] if b == 0 else 1
            x = g.conv(x, at["width"], kernel=at["kernel"], stride=stride, path=f"s{s}.{b}")
        return x

    return build


def plain(space: SearchSpace, x: Encodings) -> tuple[Ints, Encodings]:
    """Site rows and canonical rows by their definitions, site after site."""
    compiled, out = space.compiled, x.copy()
    rows = np.empty((len(x), len(compiled.sites)), dtype=np.intp)
    shape = x[:, space.input_gene].astype(np.intp) if space.input_gene is not None else np.zeros(len(x), np.intp)
    for s, site in enumerate(compiled.sites):
        choice = sum((r.value_of[x[:, r.gene]] * r.weight for r in site.reads), np.zeros(len(x), np.intp))
        rows[:, s] = shape * site.choices + choice
        site.write(out, site.canonical[rows[:, s]])
        shape = site.next_shape[rows[:, s]]
    return rows, out


def check(space: SearchSpace, plan: RowPlan, x: Encodings, rng: np.random.Generator) -> None:
    rows, canonical = plain(space, x)
    assert plan.site_rows(x).tolist() == rows.tolist()
    assert plan.canonical(x).tolist() == canonical.tolist()
    sites = space.compiled.sites
    whole = [rng.integers(0, 2**40, site.rows).astype(np.float64) for site in sites]
    vectors = [rng.normal(size=(site.rows, 3)) for site in sites]
    exact, close = plan.sums([plan.fuse(whole), plan.fuse(vectors)], x)
    assert exact.tolist() == np.sum([t[rows[:, s]] for s, t in enumerate(whole)], axis=0).tolist()
    np.testing.assert_allclose(
        close, np.sum([t[rows[:, s]] for s, t in enumerate(vectors)], axis=0), rtol=1e-12, atol=1e-12
    )
    if len(x):
        (alone,) = plan.sums([plan.fuse(vectors)], x[:1])
        assert alone.tolist() == close[:1].tolist()  # a row costs the same alone as in a batch


@settings(deadline=None, max_examples=100)
@given(spaces(), st.integers(0, 2**32), st.sampled_from([0, 1, 2, 40]), st.data())
def test_the_fast_rows_are_the_plain_ones(space: SearchSpace, seed: int, n: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    limits: dict[str, Any] = {
        name: data.draw(st.sampled_from([1, 6, 40, 4096]), name) for name in ("_SMALL", "_DIRECT", "_CHUNK")
    }
    limits |= {"_SMALLEST_CHUNK": 1, "_EXACT": data.draw(st.sampled_from([2, 1 << 24]))}
    with patch.multiple("nas.rows", **limits):
        check(space, RowPlan(space.compiled), space.sample(rng, n), rng)


def test_a_shape_that_many_genes_decide_is_handed_on() -> None:
    """70 stride patterns, read by every stage: genes alone would need many times the entries."""
    stages = [Stage(width=(8, 16), stride=(1, 2), kernel=(3, 5), expansion=(1, 2)) for _ in range(8)]
    space = staged_space("strided", inputs=[(3, 32, 32)], stem=Stem(8), stages=stages, head=Head(2, 0), reduction=32)
    with patch.multiple("nas.rows", _SMALL=100, _DIRECT=100):
        plan = RowPlan(space.compiled)
    assert any(step.carried for step in plan.steps)
    assert max(len(step.rows[0]) for step in plan.steps) <= max(70, *(site.rows for site in space.compiled.sites))
    rng = np.random.default_rng(0)
    check(space, plan, space.sample(rng, 500), rng)


def test_light_nas_takes_one_look_up_a_stage(light_nas: SearchSpace) -> None:
    plan = light_nas.compiled.plan
    assert len(plan.steps) == 6
    assert not any(step.carried or step.writes for step in plan.steps)
    rng = np.random.default_rng(0)
    check(light_nas, plan, light_nas.sample(rng, 20_000), rng)


def test_several_models_share_the_look_up() -> None:
    space = build_space("nas-bench-macro")
    x = space.sample(np.random.default_rng(0), 100)
    doubled = CostModel.compile(space, lambda place: float(place.op.flops), unit="x", offset=5.0, scale=2.0)
    models = [flops_model(space), params_model(space), doubled]
    with patch.object(RowPlan, "index", autospec=True, side_effect=RowPlan.index) as index:
        found = costs(models, x)
    assert index.call_count == 1
    assert [f.tolist() for f in found] == [m(x).tolist() for m in models]
    assert costs([], x) == []


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_a_budget_of_exactly_the_minimum_allows_its_network(seed: int) -> None:
    space, rng = build_space("nas-bench-macro"), np.random.default_rng(seed)
    tables = [rng.random(site.rows) for site in space.compiled.sites]
    model = CostModel(space, tables, unit="ms", offset=rng.random(), scale=1 + rng.random())
    costs_of_all = model(np.concatenate(list(space.enumerate())))
    for (value, row), extreme in ((model.minimum(), costs_of_all.min()), (model.maximum(), costs_of_all.max())):
        assert value == model.one(row) == pytest.approx(extreme, rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_validate_finds_the_one_bad_gene_in_any_batch(n: int) -> None:
    space = build_space("mobilenetv2-small")
    x = space.sample(np.random.default_rng(n), n)
    found = space.validate(x)
    assert found.tolist() == x.tolist()
    assert not np.shares_memory(found, x)
    for row in {0, n // 2, n - 1} if n else ():
        wrong = x.copy()
        wrong[row, 3] = space.cardinalities[3]
        with pytest.raises(InvalidEncoding, match=r"gene 3 .* is 3, allowed 0 to 2"):
            space.validate(wrong)
