"""Contestants: the networks of a final, from the search and from the families beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from api.plans.feasibility import build_budgets
from api.plans.plan import Plan
from latency.verify import Timed
from nas.errors import ImpossibleBudget, MissingOps
from nas.graph import Graph, Shape
from nas.objective import inside
from nas.space import SearchSpace
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

SIDES = (3 / 7, 4 / 7, 5 / 7, 6 / 7, 1.0)
"""Resolutions of a family, in parts of the search's largest: the paper's 96, 128, 160, 192 and 224 of 224."""
_LEAST_PX = 8
"""The shorter side of a family's smallest pictures, which are halved three times."""
_TITLES = {"mobilenetv2": "MobileNetV2", "shufflenetv2": "ShuffleNetV2"}
_DEAREST = 4.0
"""Where latency is limited, a family's network with more FLOPs than so many times the dearest finalist's is not even
run: board time."""


@dataclass(frozen=True)
class Contestant:
    """A network of a final.

    Attributes:
        label: what a report calls it.
        space: its space; a family's for a baseline.
        encoding: of that space.
        graph: decoded.
        costs: metric -> value, as priced; `latency_ms` is the prediction, where there is one.
        trial: of the search; None for a baseline.
        timed: what was measured on the board, if anything was.
    """

    label: str
    space: SpaceSpec
    encoding: tuple[int, ...]
    graph: Graph
    costs: Mapping[str, float]
    trial: Trial | None = None
    timed: Timed | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is what the search is compared with."""
        return self.trial is None

    @property
    def latency_ms(self) -> float | None:
        """As measured, else as predicted."""
        return self.timed.measured_ms if self.timed else self.costs.get("latency_ms")


def finalist(plan: Plan, trial: Trial) -> Contestant:
    """A search's trial as a contestant."""
    graph = plan.space.graph(trial.encoding)
    return Contestant(f"trial {trial.number}", plan.spec.space, trial.encoding, graph, dict(trial.costs), trial)


def family_candidates(plan: Plan, family: str, finalists: Sequence[Contestant], *, measured: bool) -> list[Contestant]:
    """The members of a family that keep the plan's budgets, as far as that is known before they are run.

    Args:
        plan: of the search.
        family: the name of a space whose genes are `width` and `resolution`.
        finalists: what the family is compared with.
        measured: they will be run on the board, so no latency has to be predicted.

    Raises:
        MissingOps: latencies have to be predicted, and the table lacks the family's ops.
    """
    spec = _family_spec(plan.space, family, finalists[0].graph.output.shape[0])
    space = spec.build()
    budgets = dict(plan.spec.hard_budgets)
    if measured:
        budgets.pop("latency_ms", None)
    asked = dataclasses.replace(plan.spec, space=spec, budgets=budgets, reward="hard", front=None, earlier=None)
    try:
        models, limits = build_budgets(asked, space, None if measured else plan.table)
    except ImpossibleBudget:
        return []
    rows = np.concatenate(list(space.enumerate()))
    rows = rows[inside(limits, rows)]
    dearest, timed = max(c.graph.flops for c in finalists), measured and "latency_ms" in plan.spec.budgets
    found: dict[Graph, Contestant] = {}
    for row in rows:
        graph = space.graph(row)
        if graph not in found and (not timed or graph.flops <= _DEAREST * dearest):
            costs = {metric: float(model.one(row)) for metric, model in models.items()}
            found[graph] = Contestant(_label(space, row), spec, tuple(map(int, row)), graph, costs)
    return list(found.values())


def at_the_edge(candidates: Sequence[Contestant], limit_ms: float | None) -> list[Contestant]:
    """Of a family's candidates those that keep the latency and that no other of them dominates.

    A baseline has the benefit of the doubt: it keeps a latency that it exceeds by no more than its measurement's noise,
    lest the search wins because its strongest opponent was measured in a bad moment. One dominates another that halves
    its pictures at the same places, if it is larger in width or resolution and not smaller in the other. Resolutions
    are compared by area: their sides grow together, but not always both by a pixel.
    """
    kept = [c for c in candidates if keeps(c, limit_ms) or in_doubt(c, limit_ms)]
    sizes = [(_halving(c), c.graph.params, _area_px(c.graph.input.shape)) for c in kept]

    def dominated(own: tuple[tuple[str, ...], int, int]) -> bool:
        return any(o[0] == own[0] and o != own and o[1] >= own[1] and o[2] >= own[2] for o in sizes)

    found = [c for c, size in zip(kept, sizes, strict=True) if not dominated(size)]
    return sorted(found, key=lambda c: (_halving(c), _area_px(c.graph.input.shape)))


def keeps(contestant: Contestant, limit_ms: float | None) -> bool:
    """Whether a network keeps a latency, as measured or else as predicted; True without a limit."""
    if limit_ms is None:
        return True
    return contestant.latency_ms is not None and contestant.latency_ms <= limit_ms


def in_doubt(contestant: Contestant, limit_ms: float | None) -> bool:
    """Whether a network was measured above a latency, but by no more than the noise of that measurement."""
    timed = contestant.timed
    if limit_ms is None or timed is None or timed.noise_pct is None:
        return False
    return limit_ms < timed.measured_ms <= limit_ms * (1 + timed.noise_pct / 100)


def family_limit_ms(plan: Plan, finalists: Sequence[Contestant]) -> float | None:
    """The latency that baselines have to keep: the budget; where it is but a target, that or the slowest finalist's."""
    wanted = plan.spec.budgets.get("latency_ms")
    if wanted is None or plan.spec.reward == "hard":
        return wanted
    return max([wanted, *(c.latency_ms for c in finalists if c.latency_ms is not None)])


def missing(error: MissingOps, family: str) -> str:
    """What a person can do about a family that cannot be priced."""
    return (
        f"{_TITLES.get(family, family)} is left out: the search's table has no times for {len(error.keys)} of its ops; "
        "have them measured on the board (without --no-measure)"
    )


def _family_spec(space: SearchSpace, family: str, classes: int) -> SpaceSpec:
    """A family for the pictures of a search's space: in its channels, and scaled from its largest input."""
    channels, (_, h, w) = space.inputs[0][0], max(space.inputs, key=_area_px)
    sizes = _sizes(h, w)
    if h == w:
        return SpaceSpec(family, tuple(side for side, _ in sizes), classes, channels)
    return SpaceSpec(family, (), classes, channels, sizes=sizes)


def _sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(h, w) in pixels, the smallest first: `SIDES` of both sides, even.

    All have the aspect of the largest, give or take rounding: pictures are scaled to cover an input and the middle is
    cut out, so one of another aspect would see less of them than the search's networks do. What would be shorter than
    `_LEAST_PX` is therefore enlarged as a whole.
    """
    parts = [max(part, _LEAST_PX / min(height, width)) for part in SIDES]
    return tuple(sorted({(2 * round(height * part / 2), 2 * round(width * part / 2)) for part in parts}))


def _area_px(shape: Shape) -> int:
    return shape[1] * shape[2]


def _halving(c: Contestant) -> tuple[str, ...]:
    """The paths of the ops that make the picture smaller."""
    return tuple(
        n.path for n in c.graph.nodes if n.op.stride != (1, 1) and n.op.kind in ("conv", "depthwise", "maxpool")
    )


def _label(space: SearchSpace, row: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> str:
    values = space.decode(row)
    text = f"{_TITLES.get(space.name, space.name)} x{values['width']}"
    text += f" at {values['resolution']} px" if "resolution" in values else ""
    return f"{text}, halved early" if values.get("downsampling") == "early" else text
