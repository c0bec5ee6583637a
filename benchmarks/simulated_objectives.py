"""Made-up accuracies over real search spaces: what a strategy is chosen on, so that recorded tables only check it.

An accuracy is high where a network has the FLOPs it needs, spends them where this objective likes them, has good genes
and genes that go together; it saturates, and every evaluation adds noise as another training seed would. Three families
weigh these parts differently; a seed draws all effects anew.

Prints, per strategy and group of objectives, the regret of the best network seen, in percent of the way from the best
network to the median one inside the budget, averaged over objectives and seeds.

    python benchmarks/simulated_objectives.py --strategies annealing random tpe --seeds 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.cost import CostModel, flops_model, params_model
from nas.feasible import FeasibleSet
from nas.objective import Budget, inside
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategy import Strategy, rng
from nas.trial import Trial

Floats = NDArray[np.float64]

# family -> weights of (capacity, balance, genes, pairs); the weighted parts have unit spread over uniform networks.
FAMILIES = {"smooth": (1.0, 1.0, 0.6, 0.3), "genes": (0.6, 0.5, 1.0, 0.4), "pairs": (0.6, 0.5, 0.6, 1.0)}
SHARES = (None, 0.3, 0.05)  # budgets: FLOPs that so large a share of uniform encodings keeps
CHECKPOINTS = (25, 50, 100)
RESULTS = Path(__file__).parent / "results" / "search_simulated.json"
_TOP, _SPAN = 0.95, 0.06  # accuracy of a perfect network, and what a poor one loses
_SAMPLE = 4096
_NOISE_DRAW = 7  # role of the generator of an evaluation's noise


@dataclass(frozen=True)
class Truth:
    """Rows -> accuracy without noise: gathers from tables, no network is built.

    Attributes:
        space: whose rows.
        flops, params: their tables' logarithms are the sites' features.
        seed: draws all effects.
        weights: of the parts; see `FAMILIES`.
    """

    space: SearchSpace
    flops: CostModel
    params: CostModel
    seed: int
    weights: tuple[float, ...]

    def __call__(self, rows: Encodings) -> Floats:
        """(n,) accuracy in [0, 1] of valid rows (n, genes); equal networks have equal accuracies."""
        z = self._parts(rows) @ self._scale
        return np.asarray(_TOP - _SPAN * np.logaddexp(0.0, -z - self._shift) / np.log(2.0))

    @cached_property
    def _draws(self) -> dict[str, NDArray[np.float64]]:
        random, cards = np.random.default_rng([self.seed, 1]), self.space.cardinalities
        sites = len(self._sites)
        pairs = random.permuted(np.argwhere(np.tri(len(cards), k=-1, dtype=bool)), axis=0)[: 2 * len(cards)]
        # A few genes matter much, most little.
        size = random.gamma(0.7, size=len(cards))
        genes = [s * _curve(random, c) for s, c in zip(size, cards, strict=True)]
        strength = random.gamma(0.5, size=len(pairs))
        tables = [s * _table(random, cards[i], cards[j]) for s, (i, j) in zip(strength, pairs, strict=True)]
        return {
            "need": random.uniform(0.2, 0.7, size=1),
            "like": random.normal(0.0, 1.0, size=(sites, 2)),
            "care": random.gamma(1.0, size=(sites, 2)),
            "genes": np.concatenate(genes),
            "pairs": pairs,
            "tables": np.concatenate([t.ravel() for t in tables]),
        }

    @cached_property
    def _sites(self) -> list[tuple[int, Floats]]:
        """(site, (rows, 2) log FLOPs and log parameters) of the sites that vary."""
        out = []
        for s, site in enumerate(self.space.compiled.sites):
            if site.rows > 1:
                out.append((s, np.stack([np.log1p(self.flops.tables[s]), np.log1p(self.params.tables[s])], axis=1)))
        return out

    @cached_property
    def _sample(self) -> Encodings:
        return self.space.sample(np.random.default_rng([self.seed, 2]), _SAMPLE)

    def _raw(self, rows: Encodings) -> tuple[Floats, Floats, Encodings]:
        """(n,) log FLOPs of the whole, (n, sites, 2) features, (n, genes) canonical rows."""
        x = self.space.compiled.canonical(rows)
        at = self.space.compiled.site_rows(x)
        features = np.stack([table[at[:, s]] for s, table in self._sites], axis=1)
        return np.log(self.flops(x)), features, x

    @cached_property
    def _norm(self) -> tuple[Floats, Floats, Floats]:
        total, features, _ = self._raw(self._sample)
        return np.quantile(total, [0.0, 1.0]), features.mean(axis=0), features.std(axis=0) + 1e-12

    def _parts(self, rows: Encodings) -> Floats:
        """(n, 4) capacity, balance, genes, pairs; of no particular scale."""
        (low, high), mean, sd = self._norm
        total, features, x = self._raw(rows)
        d, cards = self._draws, self.space.cardinalities
        capacity = -np.exp(-(total - low) / (high - low) / (0.5 * d["need"][0]))
        balance = -(d["care"] * ((features - mean) / sd - d["like"]) ** 2).sum(axis=(1, 2))
        genes = d["genes"][x + np.concatenate([[0], np.cumsum(cards)[:-1]])].sum(axis=1)
        i, j = d["pairs"].T.astype(np.intp)
        sizes = cards[i] * cards[j]
        cells = x[:, i].astype(np.intp) * cards[j] + x[:, j] + np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return np.stack([capacity, balance, genes, d["tables"][cells].sum(axis=1)], axis=1)

    @cached_property
    def _scale(self) -> Floats:
        parts = self._parts(self._sample)
        scale = np.array(self.weights) / (parts.std(axis=0) + 1e-12)
        return np.asarray(scale / (parts @ scale).std())

    @cached_property
    def _shift(self) -> float:
        return -float((self._parts(self._sample) @ self._scale).mean())


def _curve(random: np.random.Generator, choices: int) -> Floats:
    """(choices,) effect of a gene: a hump or a slope over the ordered choices, and something rough."""
    t = np.linspace(-1.0, 1.0, choices)
    smooth = random.normal() * t - random.normal() * t**2
    return np.asarray(smooth + 0.5 * random.normal(size=choices))


def _table(random: np.random.Generator, a: int, b: int) -> Floats:
    """(a, b) effect of two genes together."""
    s, t = np.linspace(-1.0, 1.0, a)[:, None], np.linspace(-1.0, 1.0, b)
    return np.asarray(random.normal() * s * t + 0.7 * random.normal(size=(a, b)))


@dataclass(frozen=True)
class Objective:
    """One made-up search.

    Attributes:
        name: space/family/seed/budget.
        space: what is searched.
        truth: rows (n, genes) -> (n,) accuracy in [0, 1] without noise.
        budgets: hard limits.
        noise: sd of an evaluation's noise, as a share of the spread of good networks.
        seed: of the objective.
    """

    name: str
    space: SearchSpace
    truth: Callable[[Encodings], Floats]
    budgets: tuple[Budget, ...]
    noise: float
    seed: int

    @cached_property
    def _uniform(self) -> Encodings:
        """Networks inside the budgets."""
        x = FeasibleSet(self.space, self.budgets).draw(np.random.default_rng([self.seed, 3]), _SAMPLE)
        return np.asarray(x[inside(self.budgets, x)])

    @cached_property
    def median(self) -> float:
        """Accuracy of the median network inside the budgets."""
        return float(np.median(self.truth(self._uniform)))

    @cached_property
    def noise_sd(self) -> float:
        """Sd of an evaluation's noise: `noise` times the sd among the better half of the networks."""
        y = self.truth(self._uniform)
        return self.noise * float(y[y >= np.median(y)].std())

    @cached_property
    def optimum(self) -> float:
        """Highest accuracy inside the budgets: annealing in many chains, then climbing by one and two genes."""
        random = np.random.default_rng([self.seed, 4])
        x = self._uniform[np.argsort(-self.truth(self._uniform))[:256]].copy()
        y, every = self.truth(x), np.arange(len(x))
        best = dict(zip(map(bytes, x), y, strict=True))
        for step in range(400):
            z = x.copy()
            for gene in random.integers(0, z.shape[1], (1 + step % 2, len(x))):
                z[every, gene] = (random.random(len(x)) * self.space.cardinalities[gene]).astype(np.uint8)
            new = self.truth(z)
            take = inside(self.budgets, z) & (new >= y + np.log(random.random(len(x))) * 0.3 * y.std() * 0.985**step)
            x[take], y[take] = z[take], new[take]
            best.update(zip(map(bytes, x[take]), y[take], strict=True))
        starts = sorted(best, key=best.__getitem__, reverse=True)[:200:25]
        return max(self._climbed(np.frombuffer(s, dtype=np.uint8)) for s in starts)

    def _climbed(self, row: NDArray[np.uint8]) -> float:
        value = float(self.truth(row[None])[0])
        while True:
            once = self.space.neighbours(row)
            twice = np.repeat(once, len(once), axis=0)
            changed, other = twice != row, np.tile(once, (len(once), 1))
            twice = np.where(changed, twice, other)
            twice = twice[inside(self.budgets, twice)]
            y = self.truth(twice) if len(twice) else np.array([-1.0])
            if y.max() <= value:
                return value
            row, value = twice[y.argmax()], float(y.max())

    def observe(self, row: NDArray[np.uint8], seed: int, number: int) -> float:
        """What the evaluation of trial `number` of the search with that seed reports."""
        noisy = float(self.truth(row[None])[0]) + self.noise_sd * rng(seed, number, _NOISE_DRAW).normal()
        return float(np.clip(noisy, 0.0, 1.0))

    def regret(self, accuracy: float) -> float:
        """0 for the best network, 100 for the median one inside the budgets."""
        return 100.0 * (self.optimum - accuracy) / (self.optimum - self.median)


def objectives(space: SearchSpace, seeds: Sequence[int], shares: Sequence[float | None] = SHARES) -> list[Objective]:
    """One objective per family, seed and budget; noise is 10 to 30 % of the spread of good networks.

    Args:
        space: what is searched.
        seeds: each draws all effects anew.
        shares: of uniform encodings that keep the FLOPs budget; None: no budget.
    """
    flops, params = flops_model(space), params_model(space)
    priced = flops(space.sample(np.random.default_rng(0), 100_000))
    out = []
    for f, (family, weights) in enumerate(FAMILIES.items()):
        for seed in seeds:
            truth = Truth(space, flops, params, 10 * seed + f, weights)
            noise = float(np.random.default_rng([seed, f]).uniform(0.1, 0.3))
            for share in shares:
                budgets = () if share is None else (Budget("flops", float(np.quantile(priced, share)), flops),)
                name = f"{space.name}/{family}/{seed}/{'free' if share is None else f'{share:.0%}'}"
                out.append(Objective(name, space, truth, budgets, noise, 10 * seed + f))
    return out


def regret_curves(
    factory: Callable[[SearchSpace, Sequence[Budget], int], Strategy], objective: Objective, seed: int, evaluations: int
) -> tuple[Floats, Floats]:
    """(best seen, recommended: highest observed) regret after each evaluation of one search, (evaluations,) each.

    Args:
        factory: (space, budgets, seed) -> a fresh strategy.
        objective: what is maximised.
        seed: of the search and of its noise.
        evaluations: how many.
    """
    strategy = factory(objective.space, objective.budgets, seed)
    true, observed = np.zeros(evaluations), np.zeros(evaluations)
    for number in range(evaluations):
        row = strategy.ask(number)
        true[number] = objective.truth(row[None])[0]
        observed[number] = reward = objective.observe(row, seed, number)
        trial = Trial(number, tuple(row.tolist()), attrs=strategy.attrs(number))
        strategy.tell(trial.complete(reward, reward, 0.0, {}))
    seen = np.maximum.accumulate(true)
    chosen = np.maximum.accumulate(np.where(observed == np.maximum.accumulate(observed), np.arange(evaluations), 0))
    to_regret = np.vectorize(objective.regret, otypes=[np.float64])
    return to_regret(seen), to_regret(true[chosen])


def _save(space: str, strategy: str, marks: list[int], values: list[Floats]) -> None:
    """Keep the mean regret of the best seen for `search_report.py`."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"spaces": {}}
    seen = np.mean(values, axis=0)[: len(marks)].round(2).tolist()
    kept["spaces"].setdefault(space, {})[strategy] = {"searches": len(values), "seen": seen}
    RESULTS.write_text(json.dumps(kept | {"marks": marks}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["annealing", "random", "tpe"])
    parser.add_argument("--spaces", nargs="+", default=["mobilenetv2-small", "light-nas"])
    parser.add_argument("--objectives", type=int, default=3, help="draws of each family")
    parser.add_argument("--first-objective", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2, help="searches of each objective")
    parser.add_argument("--evaluations", type=int, default=CHECKPOINTS[-1])
    parser.add_argument("--json", action="store_true", help="one object a strategy and objective on stdout")
    parser.add_argument("--save", action="store_true", help="keep the means for docs/search.md")
    args = parser.parse_args()
    marks = [c for c in CHECKPOINTS if c <= args.evaluations] or [args.evaluations]
    draws = range(args.first_objective, args.first_objective + args.objectives)
    if not args.json:
        heads = [f"{kind}@{c}" for kind in ("seen", "rec") for c in marks]
        print(f"{'strategy':<12}{'objectives':<28}" + "".join(f"{h:>9}" for h in heads) + f"{'ms/trial':>10}")
    for space in map(build_space, args.spaces):
        everything = objectives(space, draws)
        for name in args.strategies:
            groups: dict[str, list[Floats]] = {}
            started = time.perf_counter()
            for objective in everything:
                for seed in range(args.seeds):
                    curves = regret_curves(
                        lambda *a, name=name: build_strategy(name, *a), objective, seed, args.evaluations
                    )
                    values = np.concatenate([c[[m - 1 for m in marks]] for c in curves])
                    _, family, _, budget = objective.name.split("/")
                    for group in (f"{space.name}/{family}", f"{space.name}/{budget}", f"{space.name}/all"):
                        groups.setdefault(group, []).append(values)
                    if args.json:
                        record = {"strategy": name, "objective": objective.name, "seed": seed, "marks": marks}
                        print(json.dumps(record | {"seen_recommended": values.tolist()}), flush=True)
            ms = (time.perf_counter() - started) * 1e3 / (len(everything) * args.seeds * args.evaluations)
            if args.save:
                _save(space.name, name, marks, groups[f"{space.name}/all"])
            for group, found in () if args.json else groups.items():
                numbers = "".join(f"{v:>9.2f}" for v in np.mean(found, axis=0))
                print(f"{name:<12}{group:<28}{numbers}{ms:>10.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
