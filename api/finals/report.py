"""By how much a search's winner beats the obvious choices, or that it does not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from api.finals.contestants import Contestant
from nas.memory import model_mb, peak_memory_mb

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Result:
    """A contestant's accuracies, one a seed.

    Attributes:
        contestant: who.
        seeds: of its trainings.
        val_accuracies: on the validation pictures.
        hits: per seed (test pictures,) True where it was right; empty where nobody looked.
        known: share of its parameters that initial weights gave; 0 without any.
    """

    contestant: Contestant
    seeds: tuple[int, ...]
    val_accuracies: tuple[float, ...]
    hits: tuple[NDArray[np.bool_], ...] = ()
    known: float = 0.0

    @property
    def val_accuracy(self) -> float:
        """Mean over the seeds; finalists are ranked by it."""
        return statistics.fmean(self.val_accuracies)

    @property
    def test_accuracies(self) -> list[float]:
        """On the test pictures, one a seed."""
        return [float(h.mean()) for h in self.hits]


def compare(winner: Result, results: Sequence[Result]) -> dict[str, Any]:
    """The final as JSON types.

    Returns:
        `networks`: every result, the winner first; `comparison`: the winner against the baseline of the highest mean
        validation accuracy, on the test pictures (`judge`); None without baselines.
    """
    baselines = [r for r in results if r.contestant.is_baseline]
    networks = [_describe(r, winner) for r in results]
    if not baselines:
        return {"winner": winner.contestant.label, "networks": networks, "comparison": None}
    best = max(baselines, key=lambda r: r.val_accuracy)
    return {
        "winner": winner.contestant.label,
        "networks": networks,
        "comparison": {"baseline": best.contestant.label, **judge(winner.hits, best.hits)},
    }


def judge(own: Sequence[NDArray[np.bool_]], other: Sequence[NDArray[np.bool_]]) -> dict[str, Any]:
    """How two networks differ in test accuracy, in points.

    Args:
        own: per seed (test pictures,) where the one was right.
        other: likewise, with the same seeds.

    Returns:
        `margins`, one a seed, their `mean` and `sd`; `half_width` of the mean's 95 % interval, made of two parts that
        add in squares: the luck of trainings (Student's t over the seeds) and that of which pictures are in the test
        (paired, picture by picture); `verdict`: `wins`, `loses`, `level` where the interval holds 0, or `one seed`,
        which tells nothing of the luck of trainings.
    """
    differences = np.array([a.astype(float) - b for a, b in zip(own, other, strict=True)])
    seeds, pictures = differences.shape
    margins = 100 * differences.mean(1)
    mean = float(margins.mean())
    half_width = 1.96 * 100 * float(differences.mean(0).std()) / math.sqrt(pictures)
    sd = None
    if seeds > 1:
        sd = float(margins.std(ddof=1))
        luck = float(student_t.ppf(0.5 + CONFIDENCE / 2, seeds - 1)) * sd / math.sqrt(seeds)
        half_width = math.hypot(half_width, luck)
    verdict = "wins" if mean > half_width else "loses" if mean < -half_width else "level"
    return {
        "margins": margins.tolist(),
        "mean": mean,
        "sd": sd,
        "half_width": half_width,
        "verdict": verdict if seeds > 1 else "one seed",
    }


def spread(accuracies: Sequence[float]) -> str:
    """For people, in percent: the mean and, of several seeds, the standard deviation; - of none."""
    if not accuracies:
        return "-"
    text = f"{100 * statistics.fmean(accuracies):.2f}"
    return text if len(accuracies) == 1 else f"{text} ± {100 * statistics.stdev(accuracies):.2f}"


def _describe(result: Result, winner: Result) -> dict[str, Any]:
    c = result.contestant
    return {
        "label": c.label,
        "role": "baseline" if c.is_baseline else "winner" if result is winner else "finalist",
        "space": c.space.name,
        "encoding": ",".join(map(str, c.encoding)),
        "input": list(c.graph.input.shape),
        "flops": c.graph.flops,
        "params": c.graph.params,
        "model_mb": model_mb(c.graph),
        "peak_memory_mb": peak_memory_mb(c.graph),
        "predicted_ms": c.costs.get("latency_ms"),
        "measured_ms": c.timed.measured_ms if c.timed else None,
        "p95_ms": c.timed.p95_ms if c.timed else None,
        "known_at_start": result.known,
        "seeds": list(result.seeds),
        "val_accuracies": list(result.val_accuracies),
        "val_accuracy": result.val_accuracy,
        "test_accuracies": result.test_accuracies,
        "test_accuracy": statistics.fmean(result.test_accuracies) if result.hits else None,
        "winner_is_better_by": judge(winner.hits, result.hits) if c.is_baseline else None,
    }
