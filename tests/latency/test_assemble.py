from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from latency.assemble import Measured, assemble
from latency.engines import get_engine
from latency.fit import Sampled
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance
from latency.terms import features
from nas.graph import Graph, Op
from nas.spaces import build_space

ENGINE = get_engine("ncnn")
SPACE = build_space("mobilenetv2-small")
PLACES = {key: place for place in SPACE.compiled.places if (key := ENGINE.kernel_key(place)) is not None}


def ms_of(op: Op) -> float:
    return 5e-3 + op.flops * 3e-8


def sampled(graph: Graph, *, stamps: bool, whole: bool, speed: float = 1.0, sessions: int = 1) -> Sampled:
    """What a board would tell that takes `ms_of` for each op, 0.01 ms for a network, and the same each time."""
    model = ENGINE.build(graph)
    per_path = {n.path: speed * ms_of(n.op) * 1e6 for n in graph.nodes}
    row = [per_path[path] / model.stamps.count(path) for path in model.stamps] + [1e4 * speed]
    passes = 2 * sessions
    drift = np.exp(np.linspace(0, 0.02, sessions)).repeat(2) if sessions > 1 else np.ones(passes)
    return Sampled(
        graph,
        model,
        sum(row) * drift if whole else np.empty(0),
        np.array([row] * passes) if stamps else np.empty((0, 0)),
        np.arange(sessions).repeat(2),
    )


def measured(cover: int, fresh: int = 12, **how: float) -> Measured:
    x = SPACE.sample(np.random.default_rng(0), cover + fresh)
    graphs = [SPACE.graph(row) for row in x]
    whole = [sampled(g, stamps=i < 3, whole=True, **how) for i, g in enumerate(graphs[cover:])]
    return Measured([sampled(g, stamps=True, whole=False, **how) for g in graphs[:cover]], whole, whole)


def known(entries: dict[str, Entry]) -> LatencyTable:
    return LatencyTable(
        Identity("b", "m", "x86_64", "ncnn", "1", "fp32", 1, (0,), ""),
        entries,
        0.01,
        Calibration(1.0, 8, 1.0, None),
        Provenance("", "", (), 1, 1, 1.0, ""),
    )


def test_what_is_timed_predicts_whole_networks_and_the_rest_is_estimated() -> None:
    made = assemble(ENGINE, PLACES, measured(12))
    assert made.entries.keys() == PLACES.keys()
    assert 0 < made.timed < len(PLACES)
    assert sum(not e.estimated for e in made.entries.values()) == made.timed
    assert made.offset_ms == pytest.approx(0.01)
    w = np.array(astuple(made.calibration.terms))
    for row in SPACE.sample(np.random.default_rng(1), 10):
        ops = list(SPACE.graph(row).ops)
        total = sum(features(op, made.entries[ENGINE.engine_key(op)].ms) @ w for op in ops) + made.offset_ms
        assert total == pytest.approx(sum(map(ms_of, ops)) + 0.01, rel=0.1)


def test_an_earlier_table_moves_with_the_boards_drift() -> None:
    old = {key: Entry(ms_of(place.op), 0.01, 48) for key, place in PLACES.items()}
    made = assemble(ENGINE, PLACES, measured(2, speed=1.25), known(old))
    ratios = [made.entries[key].ms / e.ms for key, e in old.items()]
    assert ratios == pytest.approx([1.25] * len(old), rel=0.01)
    assert made.timed == 0
    assert not any(e.estimated for e in made.entries.values())


def test_estimates_of_an_earlier_table_are_not_kept() -> None:
    half = dict(list(PLACES.items())[::2])
    old = {key: Entry(ms_of(place.op), 0.01, 48) for key, place in half.items()}
    stale = {key: Entry(99.0, 0.0, 0, sigma=0.5) for key in PLACES.keys() - half.keys()}
    made = assemble(ENGINE, PLACES, measured(12), known({**old, **stale}))
    assert max(e.ms for e in made.entries.values()) < 50


def test_what_all_networks_shift_by_between_runners_is_told() -> None:
    still = assemble(ENGINE, PLACES, measured(12)).calibration.drift_sigma
    moved = assemble(ENGINE, PLACES, measured(12, sessions=4)).calibration.drift_sigma  # type: ignore[arg-type]
    assert still == 0
    apart = 1.4826 * 0.02 / 3  # the median distance of 0, 1/3, 2/3 and 1 of the drift from their middle
    assert moved == pytest.approx(apart * np.sqrt(2 / 4), rel=0.05)
