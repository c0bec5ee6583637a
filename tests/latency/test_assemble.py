from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from latency.assemble import Measured, assemble
from latency.engines import get_engine
from latency.fit import Sampled, drift_between
from latency.passes import Pass
from latency.session import Runs
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance
from latency.terms import features
from nas.graph import Graph, Op
from nas.spaces import build_space

ENGINE = get_engine("ncnn")
SPACE = build_space("mobilenetv2-small")
PLACES = {key: place for place in SPACE.compiled.places if (key := ENGINE.kernel_key(place)) is not None}


def ms_of(op: Op) -> float:
    return 5e-3 + op.flops * 3e-8


def sampled(graph: Graph, *, stamps: bool, whole: bool, speed: float = 1.0) -> Sampled:
    """What a board would tell that takes `ms_of` for each op, 0.01 ms for a network, and the same each time."""
    model = ENGINE.build(graph)
    per_path = {n.path: speed * ms_of(n.op) * 1e6 for n in graph.nodes}
    row = [per_path[path] / model.stamps.count(path) for path in model.stamps] + [1e4 * speed]
    return Sampled(
        graph,
        model,
        np.array([sum(row)] * 2) if whole else np.empty(0),
        np.array([row] * 2) if stamps else np.empty((0, 0)),
    )


def measured(cover: int, fresh: int = 12, **how: float) -> Measured:
    x = SPACE.sample(np.random.default_rng(0), cover + fresh)
    graphs = [SPACE.graph(row) for row in x]
    whole = [sampled(g, stamps=i < 3, whole=True, **how) for i, g in enumerate(graphs[cover:])]
    return Measured([sampled(g, stamps=True, whole=False, **how) for g in graphs[:cover]], whole)


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


def slower_and_slower(runners: int) -> list[Pass]:
    """Two passes over three networks by each of some runners, the last of them 2 % slower than the first."""
    speeds = np.exp(np.linspace(0, 0.02, runners)).repeat(2)
    return [
        Pass(i, i, {f"n{n}": Runs((round(n * 1e6 * speed),), ()) for n in (1, 2, 3)}, {}, 1.0, session=i // 2)
        for i, speed in enumerate(speeds)
    ]


def test_what_all_networks_shift_by_between_runners_is_told() -> None:
    def told(passes: list[Pass]) -> float:
        sigma = drift_between(passes, ["n1", "n2", "n3", "not run"])
        return assemble(ENGINE, PLACES, measured(12), drift_sigma=sigma).calibration.drift_sigma

    still, moved = told(slower_and_slower(1)), told(slower_and_slower(4))
    assert still == 0
    apart = 1.4826 * 0.02 / 3  # the median distance of 0, 1/3, 2/3 and 1 of the drift from their middle
    assert moved == pytest.approx(apart * np.sqrt(2 / 4), rel=0.05)


def test_a_runner_that_died_early_says_nothing_of_drift() -> None:
    late = Pass(99, 99, {"n1": Runs((9_000_000,), ())}, {}, 1.0, session=9)
    names = ["n1", "n2", "n3"]
    passes = slower_and_slower(4)
    assert drift_between([*passes, late], names) == pytest.approx(drift_between(passes, names), rel=1e-3)
