"""Candidates: what every strategy proposes from. Inside all budgets, equal to no network proposed before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import SpaceExhausted
from nas.feasible import FeasibleSet
from nas.objective import Budget
from nas.space import Encoding, Encodings, SearchSpace

_BATCHES = (2, 32, 512, 8192)  # rows drawn at a time before the set is walked through instead
_ENUMERABLE = 300_000  # networks that are walked through to the last one for an exactly uniform sample
_DEAD_ENDS = 5_000_000  # partial networks visited at most, where several budgets can make dead ends
_LEVEL = 65_536  # rows examined at most per gene distance
_DRAWN = 256  # rows drawn at a gene distance before all rows at that distance are examined


class Candidates:
    """The networks a strategy may still propose.

    Remembers what was proposed as bytes of canonical rows: about 120 bytes a trial for 25 genes.

    Args:
        space: whose networks are proposed.
        budgets: hard limits, all of them kept.

    Raises:
        ImpossibleBudget: nothing keeps the budgets.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[Budget] = ()) -> None:
        self.space = space
        self.feasible = FeasibleSet(space, budgets)
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        """Distinct networks marked so far."""
        return len(self._seen)

    def fresh(self, x: Encodings) -> NDArray[np.bool_]:
        """(n,) True where valid rows x (n, genes) keep every budget and decode to a network never marked."""
        ok = self.feasible.contains(x)
        if self._seen and ok.any():
            ok[ok] = [key not in self._seen for key in self._keys(x[ok])]
        return ok

    def mark(self, row: Encoding) -> None:
        """`row` (genes,) has been proposed: its network is fresh no more."""
        self._seen.update(self._keys(row[None]))

    def sample(self, rng: np.random.Generator) -> Encoding:
        """A uniform fresh network, as its canonical row (genes,).

        Where several budgets leave so little of their relaxation that drawing fails, the sample is found by annealing
        and no longer uniform.

        Raises:
            SpaceExhausted: there is none left.
        """
        for size in _BATCHES:
            x = self.feasible.propose(rng, size)
            fresh = np.flatnonzero(self.fresh(x))
            if len(fresh):
                return np.asarray(x[fresh[0]])
        if self.feasible.at_most <= _ENUMERABLE:
            return self._reservoir(rng)
        if len(self.feasible.budgets) > 1:
            found = self.feasible.descend(rng, self.fresh)
            if found is not None:
                return found
        visits = _DEAD_ENDS + 2.0 * len(self.space.compiled.sites) * len(self)
        for x in self.feasible.rows(visits if len(self.feasible.budgets) > 1 else np.inf):
            fresh = np.flatnonzero(self.fresh(x))
            if len(fresh):
                return np.asarray(x[fresh[0]])
        raise self._exhausted()

    def near(self, row: Encoding, rng: np.random.Generator) -> Encoding:
        """A fresh row (genes,) that differs from `row` in as few genes as possible, at least one.

        At distance 1 the gene is uniform among those that can change, then its value. Further away some rows are
        drawn first, uniform in the set of changed genes, then in their values; if none of them is fresh, the row is
        uniform among those examined: all at that distance or, from `_LEVEL` rows on, those around the rows of the
        smallest violation. Beyond the last distance: anywhere.

        Args:
            row: valid; inside the budgets or not, proposed or not.
            rng: decides the choice.

        Raises:
            SpaceExhausted: there is none left.
        """
        level = self.space.neighbours(row)
        fresh = np.flatnonzero(self.fresh(level))
        if len(fresh):
            changed = (level[fresh] != row).argmax(axis=1)
            return np.asarray(level[rng.choice(fresh[changed == rng.choice(np.unique(changed))])])
        branch, complete = max(1, len(level)), True
        for distance in range(2, len(row) + 1):
            found = self._first_fresh(self._at_distance(row, distance, rng))
            if found is not None:
                return found
            room = max(1, _LEVEL // branch)
            if len(level) > room:
                order = np.lexsort((rng.random(len(level)), self.feasible.violation(level)))
                level, complete = level[order[:room]], False
            level = self._one_further(row, level, complete)
            found = self._first_fresh(level[rng.permutation(len(level))])
            if found is not None:
                return found
        return self.sample(rng)

    # Parts -----------------------------------------------------------------------------------------------------

    def _keys(self, x: Encodings) -> list[bytes]:
        flat, width = self.space.compiled.canonical(x).tobytes(), x.shape[1]
        return [flat[i : i + width] for i in range(0, len(flat), width)]

    def _first_fresh(self, x: Encodings) -> Encoding | None:
        """The first fresh row of x (n, genes), or None."""
        for start in range(0, len(x), _DRAWN):
            part = x[start : start + _DRAWN]
            fresh = np.flatnonzero(self.fresh(part))
            if len(fresh):
                return np.asarray(part[fresh[0]])
        return None

    def _at_distance(self, row: Encoding, distance: int, rng: np.random.Generator) -> Encodings:
        """`_DRAWN` rows that differ from `row` in `distance` genes."""
        genes = rng.random((_DRAWN, len(row))).argsort(axis=1)[:, :distance]
        choices = self.space.cardinalities[genes]
        x = np.repeat(row[None], _DRAWN, axis=0)
        x[np.arange(_DRAWN)[:, None], genes] = (row[genes] + rng.integers(1, choices)) % choices
        return x

    def _one_further(self, row: Encoding, level: Encodings, complete: bool) -> Encodings:
        """The distinct rows that change one more gene of `row` than those of `level` (n, genes) do.

        Where `level` is complete, each of them is met by its last changed gene; else duplicates are looked for.
        """
        last = len(row) - 1 - (level != row)[:, ::-1].argmax(axis=1)
        parts = []
        for gene, choices in enumerate(self.space.cardinalities):
            same = level[last < gene if complete else level[:, gene] == row[gene]]
            others = np.array([v for v in range(choices) if v != row[gene]], dtype=np.uint8)
            x = np.repeat(same, len(others), axis=0)
            x[:, gene] = np.tile(others, len(same))
            parts.append(x)
        rows = np.ascontiguousarray(np.concatenate(parts))
        if complete:
            return rows
        _, first = np.unique(rows.view(f"V{rows.shape[1]}").ravel(), return_index=True)
        return np.asarray(rows[first])

    def _reservoir(self, rng: np.random.Generator) -> Encoding:
        """A uniform fresh network out of a walk through all of them."""
        chosen: Encoding | None = None
        met = 0
        for x in self.feasible.rows():
            fresh = np.flatnonzero(self.fresh(x))
            met += len(fresh)
            if len(fresh) and rng.random() < len(fresh) / met:
                chosen = np.asarray(x[rng.choice(fresh)])
        if chosen is None:
            raise self._exhausted()
        return chosen

    def _exhausted(self) -> SpaceExhausted:
        inside = " inside the budget" if self.feasible.budgets else ""
        return SpaceExhausted(f"every network of {self.space.name}{inside} has been proposed ({len(self)} of them)")
