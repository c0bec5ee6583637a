"""The fast way from encodings to table rows: all indices of a batch by one matrix product.

A site's row depends on its own genes and on the shape that reaches it, and that shape mostly on one gene (the stage
before's width). So the row is a weighted sum of a few genes, and the rows of all sites are `weights @ x.T`: no chain
of gathers from site to site. Only where a shape depends on too many genes (a stride pattern over all stages) is its
index handed on from step to step.

Notations
    Step: a stretch of consecutive sites that share one index. Entry: a value of that index, a row of a fused table.
    Feature: a column of the matrix product: a gene, or a gene seen through a read that merges some of its choices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nas.compiled import CompiledRead, CompiledSite, CompiledSpace

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]

_CHUNK = 8192  # encodings at a time: their indices and sums stay in the second-level cache
_SMALLEST_CHUNK = 256
_SMALL = 4096  # entries up to which small sites are merged into one step: 32 KiB a float64 column
_DIRECT = 1 << 14  # entries up to which genes alone index a step, where its sites have fewer rows
_EXACT = 1 << 24  # integers below are exact in float32
_CARRIED = -1  # the axis of a shape index handed on by the step before


class Fused(NamedTuple):
    """Tables of sites made into tables of steps.

    Attributes:
        tables: per step, (entries,) or (entries, k).
        combine: of two sites' numbers: `np.add`, or `np.maximum`.
    """

    tables: tuple[Floats, ...]
    combine: np.ufunc


@dataclass(frozen=True)
class Step:
    """Consecutive sites under one index.

    Attributes:
        weights: (features,) float64, of the index.
        carried: weight of the shape index handed on by the step before; 0 where the genes decide alone.
        next_shape: (entries,) shape index for the step after, or None where that one does not ask.
        sites: which.
        rows: per site, (entries,) the row of its tables.
        writes: (gene, (entries,) uint8): what a canonical row has there; only genes that can change.
    """

    weights: Floats
    carried: int
    next_shape: Ints | None
    sites: tuple[int, ...]
    rows: tuple[Ints, ...]
    writes: tuple[tuple[int, NDArray[np.uint8]], ...]


class RowPlan:
    """How encodings index the tables of a compiled space.

    Args:
        compiled: the space.
    """

    def __init__(self, compiled: CompiledSpace) -> None:
        self.steps, self._merged = _plan(compiled)
        largest = max((len(step.rows[0]) for step in self.steps), default=1)
        dtype = np.float32 if largest < _EXACT else np.float64  # float32 halves the work
        self._weights: NDArray[Any] = np.array([step.weights for step in self.steps], dtype=dtype)
        self._sites = len(compiled.sites)

    def index(self, x: NDArray[np.uint8]) -> Ints:
        """(steps, n) entry of each step for valid rows x (n, genes)."""
        if self._merged:
            x = np.concatenate([x, *(value_of[x[:, gene]][:, None] for gene, value_of in self._merged)], axis=1)
        out: Ints = (self._weights @ x.astype(self._weights.dtype).T).astype(np.intp)
        for k, step in enumerate(self.steps):
            before = self.steps[k - 1].next_shape if step.carried else None
            if before is not None:
                out[k] += step.carried * before[out[k - 1]]
        return out

    def fuse(self, tables: Sequence[Floats], combine: np.ufunc = np.add) -> Fused:
        """What `sums` gathers from; tables are (rows,) or (rows, k) per site."""
        each = (reduce(combine, [tables[s][r] for s, r in zip(k.sites, k.rows, strict=True)]) for k in self.steps)
        return Fused(tuple(map(np.ascontiguousarray, each)), combine)

    def sums(self, fused: Sequence[Fused], x: NDArray[np.uint8]) -> list[Floats]:
        """For each of `fused` the sums (or maxima) (n,) or (n, k) over all sites of valid rows x (n, genes).

        The rows are looked up once for all.
        """
        if not self.steps:
            return [np.zeros(len(x)) for _ in fused]
        out = [np.empty((len(x), *tables[0].shape[1:])) for tables, _ in fused]
        for part, index in self._chunks(x, max((math.prod(o.shape[1:]) for o in out), default=1)):
            for (tables, combine), sums in zip(fused, out, strict=True):
                total = tables[0].take(index[0], axis=0)
                for table, entries in zip(tables[1:], index[1:], strict=True):
                    combine(total, table.take(entries, axis=0), out=total)
                sums[part] = total
        return out

    def site_rows(self, x: NDArray[np.uint8]) -> Ints:
        """(n, sites) row of each site's tables, stored column after column."""
        out = np.empty((self._sites, len(x)), dtype=np.intp)
        for part, index in self._chunks(x):
            for step, entries in zip(self.steps, index, strict=True):
                for s, rows in zip(step.sites, step.rows, strict=True):
                    out[s, part] = rows.take(entries)
        return out.T

    def canonical(self, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(n, genes) the representative of each row's network."""
        out = np.array(x, dtype=np.uint8)
        if not any(step.writes for step in self.steps):
            return out
        for part, index in self._chunks(x):
            for step, entries in zip(self.steps, index, strict=True):
                for gene, values in step.writes:
                    out[part, gene] = values.take(entries)
        return out

    def _chunks(self, x: NDArray[np.uint8], columns: int = 1) -> Iterator[tuple[slice, Ints]]:
        """Parts of a batch and their indices (steps, part)."""
        size = max(_CHUNK // columns, _SMALLEST_CHUNK)
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            yield part, self.index(x[part])


# Making the plan --------------------------------------------------------------------------------------------------


@dataclass
class _Draft:
    """A step being made: a grid over its axes, the last one fastest.

    Attributes:
        axes: feature -> its values; the first may be `_CARRIED`.
        shape: (entries,) shape index that reaches the next site.
        sites, rows: as in `Step`.
        hands_on: the next step needs `shape`.
    """

    axes: dict[int, int]
    shape: Ints
    sites: list[int] = field(default_factory=list)
    rows: list[Ints] = field(default_factory=list)
    hands_on: bool = False

    def digit(self, feature: int) -> Ints:
        """(entries,) value of a feature."""
        at = list(self.axes).index(feature)
        sizes = list(self.axes.values())
        return np.arange(math.prod(sizes), dtype=np.intp) // math.prod(sizes[at + 1 :]) % sizes[at]

    def grown(self, features: dict[int, int]) -> int:
        """Entries with these features as well."""
        return math.prod((self.axes | features).values())

    def add(self, s: int, site: CompiledSite, features: Sequence[tuple[int, int, Ints]]) -> None:
        """Site `s` joins; per read its feature, that one's size and the read's value per feature value."""
        before = math.prod(self.axes.values())
        self.axes |= {feature: size for feature, size, _ in features}
        more = math.prod(self.axes.values()) // before
        self.rows = [np.repeat(rows, more) for rows in self.rows]
        row = np.repeat(self.shape, more) * site.choices
        for read, (feature, _, value_of) in zip(site.reads, features, strict=True):
            row += read.weight * value_of[self.digit(feature)]
        self.sites.append(s)
        self.rows.append(row)
        self.shape = site.next_shape[row]

    def reduced(self) -> _Draft:
        """A fresh draft over those axes that the shape depends on."""
        grid = self.shape.reshape(tuple(self.axes.values()))
        kept = {}
        for axis, (feature, size) in enumerate(self.axes.items()):
            first = grid.take([0], axis=axis)
            if (grid == first).all():
                grid = first
            else:
                kept[feature] = size
        return _Draft(kept, grid.ravel())


def _plan(compiled: CompiledSpace) -> tuple[tuple[Step, ...], tuple[tuple[int, Ints], ...]]:
    """The steps of a space, and (gene, values) of the features that are not genes."""
    cardinalities = [int(c) for c in compiled.space.cardinalities]
    genes, merged = len(cardinalities), list[tuple[int, Ints]]()

    def of_genes(site: CompiledSite) -> list[tuple[int, int, Ints]]:
        return [(r.gene, cardinalities[r.gene], r.value_of) for r in site.reads]

    def through(read: CompiledRead) -> tuple[int, int, Ints]:
        size = len(read.first)
        if size == cardinalities[read.gene]:
            return read.gene, size, read.value_of
        merged.append((read.gene, read.value_of))
        return genes + len(merged) - 1, size, np.arange(size)

    start = compiled.space.input_gene
    here = _Draft({} if start is None else {start: cardinalities[start]}, np.arange(len(compiled.space.inputs)))
    drafts: list[_Draft] = []
    for s, site in enumerate(compiled.sites):
        features = of_genes(site)
        sizes = {feature: size for feature, size, _ in features}
        direct = here if not here.sites else here.reduced()
        alone = direct.grown(sizes)
        by_genes = all(0 <= feature < genes for feature in direct.axes) and alone <= max(_DIRECT, site.rows)
        entries = math.prod(here.axes.values())
        if here.sites and here.grown(sizes) > max(_SMALL, entries, alone if by_genes else site.rows):
            drafts.append(here)
            if by_genes:
                here = direct
            else:
                here.hands_on = True
                here = _Draft({_CARRIED: len(site.shapes)}, np.arange(len(site.shapes)))
                features = [through(r) for r in site.reads]
        here.add(s, site, features)
    if here.sites:
        drafts.append(here)
    return tuple(_step(compiled, draft, genes + len(merged)) for draft in drafts), tuple(merged)


def _step(compiled: CompiledSpace, draft: _Draft, features: int) -> Step:
    weights, carried, weight = np.zeros(features), 0, 1
    for feature, size in reversed(draft.axes.items()):
        if feature == _CARRIED:
            carried = weight
        else:
            weights[feature] = weight
        weight *= size
    writes = []
    for s, row in zip(draft.sites, draft.rows, strict=True):
        for read in compiled.sites[s].reads:
            if read.shared:
                continue
            values = read.first[compiled.sites[s].canonical[row] // read.weight % len(read.first)]
            if read.gene not in draft.axes or (values != draft.digit(read.gene)).any():
                writes.append((read.gene, values.astype(np.uint8)))
    return Step(
        weights, carried, draft.shape if draft.hands_on else None, tuple(draft.sites), tuple(draft.rows), tuple(writes)
    )
