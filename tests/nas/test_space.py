from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.cost import CostModel, flops_model, params_model
from nas.errors import InvalidEncoding, InvalidSpace, MissingOps
from nas.space import Gene, SearchSpace, Site
from nas.spaces import build_space

SMALL = build_space("mobilenetv2-small")
MACRO = build_space("nas-bench-macro")


@given(st.integers(0, 2**32), st.sampled_from([SMALL, MACRO]))
def test_encodings_round_trip(seed: int, space: SearchSpace) -> None:
    row = space.sample(np.random.default_rng(seed))[0]
    assert space.parse(",".join(map(str, row))).tolist() == row.tolist()
    assert space.encode(space.decode(row)).tolist() == row.tolist()


@settings(deadline=None)  # the first example compiles the space
@given(st.integers(0, 2**32), st.sampled_from([SMALL, MACRO]))
def test_tables_price_what_the_graph_counts(seed: int, space: SearchSpace) -> None:
    x = space.sample(np.random.default_rng(seed), 3)
    graphs = [space.graph(row) for row in x]
    assert [g.flops for g in graphs] == flops_model(space)(x).tolist()
    assert [g.params for g in graphs] == params_model(space)(x).tolist()


@settings(deadline=None)  # the first example compiles the space
@given(st.integers(0, 2**32))
def test_canonical_rows_are_equal_exactly_where_networks_are(seed: int) -> None:
    x = MACRO.sample(np.random.default_rng(seed), 12)
    rows = MACRO.canonical(x)
    for a in range(len(x)):
        assert MACRO.graph(rows[a]) == MACRO.graph(x[a])
        for b in range(a):
            assert (MACRO.graph(x[a]) == MACRO.graph(x[b])) == (rows[a].tolist() == rows[b].tolist())


@given(st.integers(0, 2**32), st.sampled_from([SMALL, MACRO]))
def test_neighbours_differ_in_exactly_one_gene(seed: int, space: SearchSpace) -> None:
    row = space.sample(np.random.default_rng(seed))[0]
    near = space.validate(space.neighbours(row))
    assert len(np.unique(near, axis=0)) == len(near) == sum(len(g.choices) - 1 for g in space.genes)
    assert ((near != row).sum(axis=1) == 1).all()


@settings(deadline=None)  # the first example compiles the space
@given(st.integers(0, 2**32), st.sampled_from([SMALL, MACRO]))
def test_path_to_reaches_the_row(seed: int, space: SearchSpace) -> None:
    rng = np.random.default_rng(seed)
    rows = space.site_rows(space.sample(rng))[0]
    site = int(rng.integers(len(rows)))
    found = space.path_to(site, int(rows[site]))
    assert space.site_rows(space.validate(found))[0, site] == rows[site]


def test_path_to_with_shared_genes() -> None:
    from nas.spaces.spec import parse_space

    text = (
        "input: {resolution: [32, 64]}\nstem: {width: 8}\nreduction: 8\nhead: {width: 0}\nclasses: 2\n"
        "stages: [{width: [8, 16], stride: [1, 2]}, {width: [16, 24], stride: [1, 2]}, {width: 32, stride: [1, 2]}]"
    )
    space = parse_space(text, "shared.yaml")
    seen = {(s, int(r)) for row in space.site_rows(np.concatenate(list(space.enumerate()))) for s, r in enumerate(row)}
    for site, row in seen:
        assert space.site_rows(space.validate(space.path_to(site, row)))[0, site] == row


def test_extremes_are_exact() -> None:
    x = next(MACRO.enumerate())
    for model in (flops_model(MACRO), params_model(MACRO)):
        costs = model(x)
        assert (model.minimum()[0], model.maximum()[0]) == (costs.min(), costs.max())
        assert (model.one(model.minimum()[1]), model.one(model.maximum()[1])) == (costs.min(), costs.max())


def test_enumerate_is_complete_and_in_order() -> None:
    chunks = np.concatenate(list(MACRO.enumerate(chunk=1000)))
    assert len(np.unique(chunks, axis=0)) == MACRO.size
    assert chunks[0].tolist() == [0] * 8
    assert chunks[-1].tolist() == [2] * 8


def test_uniform_samples_hit_every_choice() -> None:
    x = SMALL.sample(np.random.default_rng(0), 2000)
    for i, gene in enumerate(SMALL.genes):
        counts = np.bincount(x[:, i], minlength=len(gene.choices))
        assert (np.abs(counts / 2000 - 1 / len(gene.choices)) < 0.06).all()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([0] * 7, "8 integer genes"),
        ([0] * 7 + [3], r"gene 7 \(s2.l2\) is 3, allowed 0 to 2"),
        ([0] * 7 + [-1], "gene 7"),
        ([0.5] * 8, "integer"),
        (["a"] * 8, "integers"),
        ([[0] * 8, [0] * 7 + [9]], "gene 7"),
        (None, "8 integer"),
        ([10**20] * 8, "integers"),
    ],
)
def test_bad_encodings_name_the_gene(row: object, says: str) -> None:
    with pytest.raises(InvalidEncoding, match=says):
        MACRO.validate(row)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "1,2", "a,b", "1,1,1,1,1,1,1,1,1", "1;1"])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        MACRO.parse(text)


def test_missing_ops_are_all_listed() -> None:
    kinds = {op.key for op in MACRO.ops() if op.kind == "depthwise"}
    with pytest.raises(MissingOps) as e:
        CostModel.compile(MACRO, lambda p: None if p.op.kind == "depthwise" else 1.0, unit="ms", table="table t1")
    assert set(e.value.keys) == kinds
    assert "table t1" in str(e.value)
    assert all(k in str(e.value) for k in kinds)


def test_scale_and_offset() -> None:
    plain = flops_model(MACRO)
    scaled = CostModel.compile(MACRO, lambda place: float(place.op.flops), unit="x", offset=5.0, scale=2.0)
    x = MACRO.sample(np.random.default_rng(1), 10)
    np.testing.assert_allclose(scaled(x), 5 + 2 * plain(x))
    assert scaled.minimum()[0] == pytest.approx(5 + 2 * plain.minimum()[0])
    assert scaled.maximum()[0] == pytest.approx(5 + 2 * plain.maximum()[0])


def test_float_prices_are_summed_per_network() -> None:
    rng = np.random.default_rng(0)
    price = {op.key: float(rng.random()) for op in SMALL.ops()}
    model = CostModel.compile(SMALL, lambda place: price[place.op.key], unit="ms")
    x = SMALL.sample(rng, 50)
    np.testing.assert_allclose(model(x), [sum(price[op.key] for op in SMALL.graph(r).ops) for r in x], rtol=1e-12)


def test_digest_tells_spaces_apart() -> None:
    assert build_space("nas-bench-macro").digest == MACRO.digest
    others = [build_space("nas-bench-macro", classes=11), build_space("nas-bench-macro", resolution=64), SMALL]
    assert len({MACRO.digest, *(s.digest for s in others)}) == 4


def test_a_gene_nobody_reads_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="idle"):
        SearchSpace("x", [Gene("idle", (1, 2))], [Site("s", (), lambda g, x: x)], [(3, 8, 8)])


def test_a_gene_needs_at_least_two_choices() -> None:
    with pytest.raises(InvalidSpace, match="lonely"):
        SearchSpace("x", [Gene("lonely", (1,))], [], [(3, 8, 8)])
