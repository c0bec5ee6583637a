"""A SearchSpace as tables over its sites: what every cost, bound and canonical form is computed from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.graph import Graph, Op, Place, Shape, Tensor
from nas.rows import RowPlan

if TYPE_CHECKING:
    from nas.space import SearchSpace

Ints = NDArray[np.intp]


@dataclass(frozen=True)
class CompiledRead:
    """How a gene contributes to a site's choice index: ``weight * value_of[gene choice]``.

    Attributes:
        gene: index of the gene.
        value_of: (choices of the gene,) index of the distinct value.
        first: (distinct values,) a gene choice that has the value.
        weight: mixed-radix weight of this read.
        shared: other sites read this gene too.
    """

    gene: int
    value_of: Ints
    first: Ints
    weight: int
    shared: bool


@dataclass(frozen=True)
class CompiledSite:
    """One site's tables; flat arrays have one entry per site row (shapes * choices).

    Attributes:
        shapes: input shapes that can reach the site.
        choices: choices of the site itself.
        reads: how the genes give the choice index.
        next_shape: (rows,) index into the next site's shapes.
        indptr, indices: CSR of op indices (into CompiledSpace.ops, with repetition) per row.
        places: for each of `indices`, the same op among its neighbours (into CompiledSpace.places).
        canonical: (rows,) the smallest choice that builds the same ops.
    """

    shapes: tuple[Shape, ...]
    choices: int
    reads: tuple[CompiledRead, ...]
    next_shape: Ints
    indptr: Ints
    indices: Ints
    places: Ints
    canonical: Ints

    @property
    def rows(self) -> int:
        """Rows of the tables."""
        return len(self.shapes) * self.choices

    def sums(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,) sum of the prices per row; prices is (places,)."""
        each = prices[self.places]
        totals = np.concatenate([[0.0], np.cumsum(each)])
        # Differences of a running sum lose digits on long arrays; integers below 2^53 stay exact, and reduceat
        # cannot express empty rows, so sum those exactly only where it matters: float prices.
        if not np.array_equal(prices, np.rint(prices)):
            filled = self.indptr[:-1] < self.indptr[1:]
            out = np.zeros(self.rows)
            if filled.any():
                out[filled] = np.add.reduceat(each, self.indptr[:-1][filled])
            return out
        return np.asarray(totals[self.indptr[1:]] - totals[self.indptr[:-1]], dtype=np.float64)

    def write(self, x: NDArray[np.uint8], choice: Ints) -> None:
        """Set the genes only this site reads so that `choice` (n,) results; shared genes are left alone."""
        for r in self.reads:
            if not r.shared:
                x[:, r.gene] = r.first[(choice // r.weight) % len(r.first)]

    def compatible(self, scenario: dict[int, int]) -> NDArray[np.bool_]:
        """(choices,) True for the choices that agree with the shared genes' values."""
        return _agrees(self.reads, self.choices, scenario)


@dataclass(frozen=True)
class CompiledSpace:
    """All sites' tables, the distinct ops, sorted by key, and the distinct places they stand in."""

    space: SearchSpace
    ops: tuple[Op, ...]
    places: tuple[Place, ...]
    sites: tuple[CompiledSite, ...]

    @cached_property
    def plan(self) -> RowPlan:
        """How encodings become rows of the tables, and sums over them."""
        return RowPlan(self)

    def site_rows(self, x: NDArray[np.uint8]) -> Ints:
        """(n, sites) row of each site's tables."""
        return self.plan.site_rows(x)

    def canonical(self, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(n, genes) the representative of each row's network."""
        return self.plan.canonical(x)

    def path_to(self, site: int, row: int) -> NDArray[np.uint8]:
        """Some encoding whose site `site` is at `row`."""
        wanted_shape, wanted_choice = divmod(row, self.sites[site].choices)
        for scenario in self.space.scenarios():
            if not self.sites[site].compatible(scenario)[wanted_choice]:
                continue
            found = self._walk_back(scenario, site, wanted_shape)
            if found is None:
                continue
            start, choices = found
            x = np.zeros((1, len(self.space.genes)), dtype=np.uint8)
            for gene, value in scenario.items():
                x[0, gene] = value
            if self.space.input_gene is not None:
                x[0, self.space.input_gene] = start
            for s, choice in enumerate([*choices, wanted_choice]):
                self.sites[s].write(x, np.array([choice]))
            return np.asarray(x[0])
        raise IndexError(f"{self.space.name}: no encoding reaches row {row} of site {site}")

    def _walk_back(self, scenario: dict[int, int], site: int, shape: int) -> tuple[int, list[int]] | None:
        """The input and the choices of the sites before `site` that lead to its input shape, or None."""
        inputs = range(len(self.sites[0].shapes))
        if self.space.input_gene in scenario:
            inputs = range(scenario[self.space.input_gene], scenario[self.space.input_gene] + 1)
        reached: dict[int, tuple[int, list[int]]] = {i: (i, []) for i in inputs}
        for s in self.sites[:site]:
            step: dict[int, tuple[int, list[int]]] = {}
            for at, (start, path) in reached.items():
                for choice in np.flatnonzero(s.compatible(scenario)):
                    step.setdefault(int(s.next_shape[at * s.choices + choice]), (start, [*path, int(choice)]))
            reached = step
        return reached.get(shape)

    def best(self, tables: list[NDArray[np.float64]]) -> tuple[float, NDArray[np.uint8]]:
        """The exact smallest Σ of tables[s][row] over all encodings, and an encoding that has it.

        A dynamic programme from the last site back, once per scenario.
        """
        best_value, best_row = np.inf, np.zeros(len(self.space.genes), dtype=np.uint8)
        for scenario in self.space.scenarios():
            to_go: NDArray[np.float64] = np.zeros(1)
            picks: list[Ints] = []
            for s, site in reversed(list(enumerate(self.sites))):
                after = to_go[site.next_shape] if s + 1 < len(self.sites) else 0.0
                value = (tables[s] + after).reshape(-1, site.choices)
                value = np.where(site.compatible(scenario), value, np.inf)
                picks.append(value.argmin(axis=1))
                to_go = value.min(axis=1)
            start = scenario.get(self.space.input_gene, -1) if self.space.input_gene is not None else 0
            start = int(to_go.argmin()) if start < 0 else start
            if to_go[start] >= best_value:
                continue
            best_value = float(to_go[start])
            x = np.zeros((1, len(self.space.genes)), dtype=np.uint8)
            for gene, choice in scenario.items():
                x[0, gene] = choice
            if self.space.input_gene is not None:
                x[0, self.space.input_gene] = start
            shape = start
            for site, pick in zip(self.sites, reversed(picks), strict=True):
                choice = int(pick[shape])
                site.write(x, np.array([choice]))
                shape = int(site.next_shape[shape * site.choices + choice])
            best_row = x[0]
        return best_value, best_row


def _compile_reads(space: SearchSpace, site_index: int) -> tuple[tuple[CompiledRead, ...], int]:
    site, weight, out = space.sites[site_index], 1, []
    for read in reversed(site.reads):  # the last read varies fastest, so choice order is lexicographic
        distinct = list(dict.fromkeys(read.values))
        value_of = np.array([distinct.index(v) for v in read.values], dtype=np.intp)
        first = np.array([read.values.index(v) for v in distinct], dtype=np.intp)
        out.append(CompiledRead(read.gene, value_of, first, weight, read.gene in space.shared))
        weight *= len(distinct)
    return tuple(reversed(out)), weight


def compile_space(space: SearchSpace) -> CompiledSpace:
    """Build every choice of every site once, for every shape that can reach it.

    A row that no scenario reaches (a stride no pattern has left at that size) gets no ops: nothing would use their
    price, and a profile would measure them for nothing.
    """
    op_ids: dict[Op, int] = {}
    place_ids: dict[tuple[int, int, tuple[int, ...]], int] = {}
    drafts: list[dict[str, Any]] = []
    scenarios = list(space.scenarios())
    reached: dict[Shape, set[int]] = {shape: set() for shape in space.inputs}
    for number, scenario in enumerate(scenarios):
        fixed_input = scenario.get(space.input_gene) if space.input_gene is not None else None
        for shape in space.inputs if fixed_input is None else [space.inputs[fixed_input]]:
            reached[shape].add(number)
    for s, site in enumerate(space.sites):
        reads, choices = _compile_reads(space, s)
        values = [[site.reads[i].values[int(f)] for f in r.first] for i, r in enumerate(reads)]
        fixed = [i for i, r in enumerate(reads) if r.shared]
        allowed = _allowed(reads, choices, scenarios)
        following: dict[Shape, set[int]] = {}
        next_ids: dict[Shape, int] = {}
        next_shape: list[int] = []
        canonical: list[int] = []
        indptr, indices, places = [0], list[int](), list[int]()
        for shape, here in reached.items():
            seen: dict[Any, int] = {}
            for c, combo in enumerate(itertools.product(*values)):
                live = here & allowed[c]
                if live:
                    g = Graph(shape)
                    out: Tensor = space.build_site(site, g, g.input, combo)
                    same = (g.wiring(), out, tuple(combo[i] for i in fixed))
                    canonical.append(seen.setdefault(same, c))
                    next_shape.append(next_ids.setdefault(out.shape, len(next_ids)))
                    following.setdefault(out.shape, set()).update(live)
                    ids = [op_ids.setdefault(op, len(op_ids)) for op in g.ops]
                    indices.extend(ids)
                    for at, place in zip(ids, g.places(out), strict=True):
                        makers = tuple(-1 if m is None else op_ids[m] for m in place.makers)
                        key = (at, -1 if place.reader is None else op_ids[place.reader], makers)
                        places.append(place_ids.setdefault(key, len(place_ids)))
                else:
                    canonical.append(c)
                    next_shape.append(0)
                indptr.append(len(indices))
        drafts.append(
            {"shapes": tuple(reached), "choices": choices, "reads": reads}
            | {"next_shape": np.array(next_shape, dtype=np.intp), "canonical": np.array(canonical, dtype=np.intp)}
            | {"indptr": np.array(indptr, dtype=np.intp), "indices": np.array(indices, dtype=np.intp)}
            | {"places": np.array(places, dtype=np.intp)}
        )
        reached = following
    named = list(op_ids)
    stands = tuple(
        Place(named[at], None if reader < 0 else named[reader], tuple(None if m < 0 else named[m] for m in makers))
        for at, reader, makers in place_ids
    )
    ordered = sorted(op_ids, key=lambda op: op.key)
    rank = np.empty(len(ordered), dtype=np.intp)
    for new, op in enumerate(ordered):
        rank[op_ids[op]] = new
    sites = tuple(CompiledSite(**{**d, "indices": rank[d["indices"]]}) for d in drafts)
    return CompiledSpace(space, tuple(ordered), stands, sites)


def _allowed(reads: tuple[CompiledRead, ...], choices: int, scenarios: list[dict[int, int]]) -> list[set[int]]:
    """Per choice of a site, the scenarios it agrees with."""
    out: list[set[int]] = [set() for _ in range(choices)]
    for number, scenario in enumerate(scenarios):
        for c in np.flatnonzero(_agrees(reads, choices, scenario)):
            out[c].add(number)
    return out


def _agrees(reads: tuple[CompiledRead, ...], choices: int, scenario: dict[int, int]) -> NDArray[np.bool_]:
    """(choices,) True for the choices that agree with the shared genes' values."""
    choice = np.arange(choices)
    ok = np.ones(choices, dtype=np.bool_)
    for r in reads:
        if r.gene in scenario:
            ok &= (choice // r.weight) % len(r.first) == r.value_of[scenario[r.gene]]
    return ok
