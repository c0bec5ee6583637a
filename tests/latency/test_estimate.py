from __future__ import annotations

import math

import numpy as np
import pytest

from latency.estimate import estimate_entries
from latency.table import Entry
from nas.graph import Op
from nas.spaces import build_space

OPS = build_space("light-nas").ops()
KEYS = {op.key: op for op in OPS}


def law_ms(op: Op) -> float:
    """A roofline with a kink, and vectors of 8."""
    moved = sum(math.prod(shape) for shape in (*op.inputs, *op.outputs)) + op.params
    fill = 1.0 if op.outputs[0][0] % 8 == 0 else 1.3
    return 1e-3 + max(op.flops * 4e-8, moved * 6e-7) * fill


def split(share: float) -> tuple[list[tuple[Op, Entry]], dict[str, Op]]:
    picked = np.random.default_rng(0).random(len(OPS)) < share
    timed = [(op, Entry(law_ms(op), 0.01, 48)) for op, known in zip(OPS, picked, strict=True) if known]
    return timed, {op.key: op for op, known in zip(OPS, picked, strict=True) if not known}


def test_ops_are_estimated_from_others_of_their_kind() -> None:
    timed, wanted = split(0.3)
    found = estimate_entries(timed, wanted)
    assert found.keys() == wanted.keys()
    errors = np.array([math.log(e.ms / law_ms(wanted[key])) for key, e in found.items()])
    assert np.sqrt(np.mean(errors**2)) < 0.15
    assert all(e.estimated and e.sigma > 0 for e in found.values())
    z = errors / [e.sigma for e in found.values()]
    assert np.mean(np.abs(z) < 2) > 0.9


def test_more_timings_make_better_estimates() -> None:
    def error(share: float) -> float:
        timed, wanted = split(share)
        found = estimate_entries(timed, wanted)
        return float(np.mean([abs(math.log(e.ms / law_ms(wanted[key]))) for key, e in found.items()]))

    assert error(0.6) < error(0.1)


@pytest.mark.parametrize("known", [1, 3])
def test_with_next_to_nothing_to_go_by_the_error_is_wide(known: int) -> None:
    timed = [(op, Entry(law_ms(op), 0.01, 9)) for op in OPS[:known]]
    found = estimate_entries(timed, KEYS)
    assert found.keys() == KEYS.keys()
    assert all(entry.sigma >= 0.5 for entry in found.values())


def test_pointwise_and_other_convolutions_stand_in_for_each_other() -> None:
    def per_byte(op: Op, ns: float) -> Entry:
        return Entry(ns * 1e-6 * sum(math.prod(shape) for shape in (*op.inputs, *op.outputs)), 0.01, 9)

    convolutions = [op for op in OPS if op.kind == "conv"]
    pointwise = [op for op in convolutions if op.kernel == (1, 1)][:3]
    square = [op for op in convolutions if op.kernel == (3, 3)][:3]
    others = [(op, per_byte(op, 50.0)) for op in OPS if op.kind not in ("conv", "linear")][:20]
    assert pointwise
    assert square
    for timed, asked in ((square, pointwise), (pointwise, square)):
        found = estimate_entries([*others, *((op, per_byte(op, 1.0)) for op in timed)], {op.key: op for op in asked})
        assert [found[op.key].ms for op in asked] == pytest.approx([per_byte(op, 1.0).ms for op in asked])


def test_estimates_are_not_estimated_from() -> None:
    guessed = [(op, Entry(5.0, 0.0, 0, sigma=0.3)) for op in OPS[:50]]
    assert estimate_entries(guessed, KEYS) == {}
